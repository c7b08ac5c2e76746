"""The annotations of a COCO file in columns: a few arrays in the place of millions of objects.

N annotations of I images lie image by image, in the order of the file within each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.formats import segmentation
from tis_ray.formats.dataset import ImageRecord

Whole = NDArray[np.int64]
NOT_SAID = -1
_TYPES: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "starts": (np.int64, ()),
    "ids": (np.int64, ()),
    "category_ids": (np.int64, ()),
    "bboxes": (np.float64, (4,)),
    "areas": (np.float64, ()),
    "crowd": (np.int8, ()),
    "polygon_starts": (np.int64, ()),
    "point_starts": (np.int64, ()),
    "points": (np.float64, ()),
    "rle_starts": (np.int64, ()),
    "rle_bytes": (np.uint8, ()),
}


@dataclass(frozen=True, slots=True, eq=False)
class CocoColumns:
    """What is known of N annotations of I images. A row `i` of a list `starts` is where the part of `i` begins.

    starts:         int64 (I + 1,) the annotations of each image
    ids:            int64 (N,)
    category_ids:   int64 (N,)
    bboxes:         float64 (N, 4) xywh
    areas:          float64 (N,), NaN where the file has none
    crowd:          int8 (N,), -1 where the file does not say
    polygon_starts: int64 (N + 1,) the polygons of each annotation; none for an RLE, and for a box alone
    point_starts:   int64 (P + 1,) the numbers of each polygon
    points:         float64 (Q,) x, y, x, y, ...
    rle_starts:     int64 (N + 1,) the bytes of each annotation's compressed RLE counts; none where there is no RLE
    rle_bytes:      uint8 (R,)
    """

    starts: Whole
    ids: Whole
    category_ids: Whole
    bboxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.int8]
    polygon_starts: Whole
    point_starts: Whole
    points: NDArray[np.float64]
    rle_starts: Whole
    rle_bytes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images(self) -> Whole:
        """The position (N,) of each annotation's image."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @staticmethod
    def of(records: Sequence[ImageRecord], entries: Sequence[Mapping[str, Any]]) -> "CocoColumns":
        """The columns of checked `entries`, in any order, of the images `records`. Keys of no use here are dropped.

        Raises `OverflowError` for numbers beyond 64 bits.
        """
        positions = {record.id: i for i, record in enumerate(records)}
        images: Whole = np.array([positions[entry["image_id"]] for entry in entries], dtype=np.int64)
        order = np.argsort(images, kind="stable")
        entries = [entries[i] for i in order.tolist()]
        masks = [entry.get("segmentation") for entry in entries]
        polygons = [mask if isinstance(mask, list) else [] for mask in masks]
        flat = list(chain.from_iterable(polygons))
        point_starts = _starts([len(polygon) for polygon in flat])
        codes = [_counts(mask, records[i]) for mask, i in zip(masks, images[order].tolist(), strict=True)]
        return CocoColumns(
            starts=np.searchsorted(images[order], np.arange(len(records) + 1)).astype(np.int64),
            ids=np.array([entry["id"] for entry in entries], dtype=np.int64),
            category_ids=np.array([entry["category_id"] for entry in entries], dtype=np.int64),
            bboxes=np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4),
            areas=np.array([entry.get("area", np.nan) for entry in entries], dtype=np.float64),
            crowd=np.array([entry.get("iscrowd", NOT_SAID) for entry in entries], dtype=np.int8),
            polygon_starts=_starts([len(one) for one in polygons]),
            point_starts=point_starts,
            points=np.fromiter(chain.from_iterable(flat), dtype=np.float64, count=int(point_starts[-1])),
            rle_starts=_starts([len(code) for code in codes]),
            rle_bytes=np.frombuffer(b"".join(codes), dtype=np.uint8),
        )

    @property
    def lengths(self) -> dict[str, int]:
        """How long each of the arrays is."""
        return {name: len(getattr(self, name)) for name in _TYPES}

    @staticmethod
    def joined(parts: Iterable["CocoColumns"], lengths: Mapping[str, int]) -> "CocoColumns":
        """The annotations of one part's images, then the next one's; `lengths` are those of the whole.

        One part at a time is in memory beside the whole. Raises `ValueError` where they are not of these lengths.
        """
        arrays = {name: np.zeros((lengths[name], *shape), dtype) for name, (dtype, shape) in _TYPES.items()}
        at = dict.fromkeys(_TYPES, 0)
        for part in parts:
            for name, array in arrays.items():
                values, start = getattr(part, name), at[name]
                if name.endswith("starts"):
                    array[start : start + len(values)] = values + array[start]
                    at[name] += len(values) - 1
                else:
                    array[start : start + len(values)] = values
                    at[name] += len(values)
        if any(at[name] + name.endswith("starts") != length for name, length in lengths.items()):
            raise ValueError(f"expected columns of lengths {dict(lengths)}; got {at}")
        return CocoColumns(**arrays)

    def entries(self, position: int, record: ImageRecord) -> list[Mapping[str, Any]]:
        """The annotations of the image at `position` in COCO's form; an RLE is compressed."""
        first, end = int(self.starts[position]), int(self.starts[position + 1])
        rows = slice(first, end)
        listed = zip(
            range(first, end),
            self.ids[rows].tolist(),
            self.category_ids[rows].tolist(),
            self.bboxes[rows].tolist(),
            self.areas[rows].tolist(),
            self.crowd[rows].tolist(),
            strict=True,
        )
        entries: list[Mapping[str, Any]] = []
        for i, id_, category_id, bbox, area, crowd in listed:
            entry = {"id": id_, "image_id": record.id, "category_id": category_id, "bbox": bbox}
            if area == area:  # no NaN
                entry["area"] = area
            if crowd != NOT_SAID:
                entry["iscrowd"] = crowd
            if (mask := self._segmentation(i, record)) is not None:
                entry["segmentation"] = mask
            entries.append(entry)
        return entries

    def _segmentation(self, i: int, record: ImageRecord) -> Any:
        start, end = self.rle_starts[i : i + 2]
        if end > start:
            return {
                "size": [record.height, record.width],
                "counts": self.rle_bytes[start:end].tobytes().decode("ascii"),
            }
        bounds = self.point_starts[self.polygon_starts[i] : self.polygon_starts[i + 1] + 1].tolist()
        if len(bounds) < 2:
            return None
        return [self.points[a:b].tolist() for a, b in pairwise(bounds)]


class LazyEntries(Mapping[int, Sequence[Mapping[str, Any]]]):
    """The entries of each of the images `records`, by its id, made from columns whenever they are asked for."""

    def __init__(self, columns: CocoColumns, records: Sequence[ImageRecord]) -> None:
        self._columns, self._records = columns, records
        self._positions = {record.id: i for i, record in enumerate(records)}

    def __getitem__(self, image_id: int) -> list[Mapping[str, Any]]:
        position = self._positions[image_id]
        return self._columns.entries(position, self._records[position])

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)


def columns_of(truth: object) -> CocoColumns | None:
    """The columns of a data set that holds its annotations that way, its `columns`; None for another."""
    found = getattr(truth, "columns", None)
    return found if isinstance(found, CocoColumns) else None


def _starts(lengths: Sequence[int]) -> Whole:
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _counts(mask: Any, record: ImageRecord) -> bytes:
    """The compressed counts of an RLE, no bytes for another mask."""
    if not isinstance(mask, Mapping):
        return b""
    return segmentation.to_rle(mask, (), record.height, record.width)["counts"].encode("ascii")
