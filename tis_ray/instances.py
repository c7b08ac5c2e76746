"""What is found in one image (`Instances`), what is truly there (`Annotations`), and the classes of both.

Labels are contiguous class indices from 0 everywhere outside the detectors; a data set's own `category_id`
exists in `tis_ray.formats` alone, and a `Categories` table converts between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import ConfigError, DataError, InputError
from tis_ray.masks import BoxMasks, CropMasks, Index, Masks, RunMasks
from tis_ray.ops.boxes import Boxes


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """N predictions of one image; every operation returns a new object.

    boxes:  float32 (N, 4) absolute xyxy in the image frame
    scores: float32 (N,) in 0..1
    labels: int32 (N,) contiguous class index from 0
    masks:  BoxMasks or RunMasks of N masks, some of them perhaps not present, or None where none were predicted
    source: int32 (N,) index of the view each came from, in the sorted list of views; 0 where there is one
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    masks: Masks | None
    source: NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        _check_array("boxes", self.boxes, (n, 4), np.float32)
        _check_array("scores", self.scores, (n,), np.float32)
        _check_array("labels", self.labels, (n,), np.int32)
        _check_array("source", self.source, (n,), np.int32)
        if self.masks is not None and len(self.masks) != n:
            raise InputError(f"masks: expected {n}, one for each box; got {len(self.masks)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> "Instances":
        return Instances(
            self.boxes[index],
            self.scores[index],
            self.labels[index],
            None if self.masks is None else self.masks[index],
            self.source[index],
        )

    @staticmethod
    def of(boxes: Any, scores: Any, labels: Any, masks: Masks | None = None, *, source: Any = 0) -> "Instances":
        """Instances from anything array-like, converted to the promised dtypes."""
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        return Instances(
            boxes,
            np.asarray(scores, dtype=np.float32),
            np.asarray(labels, dtype=np.int32),
            masks,
            np.broadcast_to(np.asarray(source, dtype=np.int32), (len(boxes),)).copy(),
        )

    @staticmethod
    def empty(*, mask_size: int | None = None) -> "Instances":
        """No instances; with `mask_size`, an empty `BoxMasks` of that patch side."""
        return Instances.of([], [], [], None if mask_size is None else BoxMasks.empty(mask_size))

    @staticmethod
    def concatenate(parts: Sequence["Instances"]) -> "Instances":
        """All instances in order. Where some parts have masks, the instances of the others say that theirs is absent.

        Raises `InputError` for parts whose masks are of different kinds.
        """
        if not parts:
            return Instances.empty()
        return Instances(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            _joined_masks(parts),
            np.concatenate([part.source for part in parts]),
        )

    @property
    def mask_scores(self) -> NDArray[np.float32]:
        """The scores (N,) by which masks are ranked: times the quality of the mask, where that was predicted."""
        if self.masks is None or self.masks.quality is None:
            return self.scores
        return np.where(self.masks.present, self.scores * self.masks.quality, self.scores)

    def with_scores(self, scores: NDArray[np.floating[Any]]) -> "Instances":
        """The same instances with other scores."""
        return replace(self, scores=np.asarray(scores, dtype=np.float32))

    def from_view(self, source: int) -> "Instances":
        """The same instances, all marked as coming from view number `source`."""
        return replace(self, source=np.full(len(self), source, dtype=np.int32))

    def relabelled(self, index_map: NDArray[np.int32]) -> "Instances":
        """Labels mapped through `index_map` (K,); instances whose class maps to -1 are dropped."""
        mapped = replace(self, labels=index_map[self.labels].astype(np.int32))
        return mapped[mapped.labels >= 0] if (index_map < 0).any() else mapped

    def without_masks(self) -> "Instances":
        """The same instances, boxes only."""
        return replace(self, masks=None)

    def check_values(self, *, num_classes: int) -> None:
        """Raise `InputError` for a value no later step could make sense of: NaN, a negative side, ..."""
        if not np.isfinite(self.boxes).all():
            raise InputError(
                f"boxes: expected finite numbers; got {_first(self.boxes, ~np.isfinite(self.boxes).all(1))}"
            )
        if self.masks is not None:
            self.masks.check_values()
        inverted = (self.boxes[:, 2:] < self.boxes[:, :2]).any(axis=1)
        if inverted.any():
            raise InputError(f"boxes: expected x1 <= x2 and y1 <= y2; got {_first(self.boxes, inverted)}")
        outside = ~((self.scores >= 0) & (self.scores <= 1))
        if outside.any():
            raise InputError(f"scores: expected 0..1; got {_first(self.scores, outside)}")
        unknown = (self.labels < 0) | (self.labels >= num_classes)
        if unknown.any():
            raise InputError(f"labels: expected 0..{num_classes - 1}; got {_first(self.labels, unknown)}")


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Ground truth of one image, N objects in its frame.

    boxes:  float32 (N, 4) absolute xyxy
    labels: int32 (N,) contiguous class index from 0; a crowd's may be -1, any class
    masks:  CropMasks, exact pixels; a box alone has a mask that fills it
    crowd:  bool (N,) a region of many objects (COCO's iscrowd) or to be ignored: neither found nor missed
    stuff:  uint8 (H, W) what each pixel of the image shows, the background's too, 255 where that is unknown; or None
    unlabelled: float32 (U, 4) boxes of objects that nobody labelled, whatever their class; None is none
    unverified: bool (K,) classes of which nobody looked for every object in the image, as in LVIS; None is none
    """

    boxes: Boxes
    labels: NDArray[np.int32]
    masks: CropMasks
    crowd: NDArray[np.bool_]
    stuff: NDArray[np.uint8] | None = None
    unlabelled: Boxes | None = None
    unverified: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        _check_array("boxes", self.boxes, (n, 4), np.float32)
        _check_array("labels", self.labels, (n,), np.int32)
        _check_array("crowd", self.crowd, (n,), np.bool_)
        if len(self.masks) != n:
            raise InputError(f"masks: expected {n}, one for each box; got {len(self.masks)}")
        if self.stuff is not None:
            _check_array("stuff", self.stuff, (*self.stuff.shape, 0, 0)[:2], np.uint8)
        if self.unlabelled is not None:
            _check_array("unlabelled", self.unlabelled, (len(self.unlabelled), 4), np.float32)
        if self.unverified is not None:
            _check_array("unverified", self.unverified, (self.unverified.size,), np.bool_)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> "Annotations":
        """Some of the objects, in an image of which all else is known that was."""
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            masks=self.masks[index],
            crowd=self.crowd[index],
        )


@dataclass(frozen=True, slots=True)
class Categories:
    """The classes of a data set, in label order. It travels with every checkpoint and ensemble.

    `frequency` holds LVIS's 'r', 'c' or 'f' for each class, or is empty; `counts` training instances, or empty;
    `image_shares` the share of training images in 0..1 that hold each class, or empty; `area_ratios` the share in 0..1
    of their boxes that the masks of each class fill on average, or empty.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    supercategories: tuple[str, ...] = ()
    frequency: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    image_shares: tuple[float, ...] = ()
    area_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for field in ("ids", "names"):
            values = getattr(self, field)
            doubles = sorted({value for value in values if values.count(value) > 1})
            if doubles:
                raise DataError(f"categories.{field}: expected each once; got twice: {doubles}")
        for field in ("names", "supercategories", "frequency", "counts", "image_shares", "area_ratios"):
            values = getattr(self, field)
            if len(values) != len(self.ids) and (values or field == "names"):
                raise DataError(f"categories.{field}: expected {len(self.ids)} entries; got {len(values)}")
        for count in self.counts:
            if not isinstance(count, int) or count < 0:
                raise DataError(f"categories.counts: expected whole numbers of at least 0; got {count!r}")
        for field in ("image_shares", "area_ratios"):
            for share in getattr(self, field):
                if not isinstance(share, (int, float)) or not 0 <= share <= 1:
                    raise DataError(f"categories.{field}: expected numbers in 0..1; got {share!r}")

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def from_json(entries: Sequence[Mapping[str, Any]]) -> "Categories":
        """From COCO's or LVIS's `categories` list, in the order of the ids."""
        entries = sorted(entries, key=lambda entry: int(entry["id"]))

        def column(key: str) -> tuple[Any, ...]:
            return tuple(entry[key] for entry in entries) if all(key in entry for entry in entries) else ()

        return Categories(
            tuple(int(entry["id"]) for entry in entries),
            tuple(str(entry["name"]) for entry in entries),
            column("supercategory"),
            column("frequency"),
            column("instance_count"),
            column("image_share"),
            column("area_ratio"),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """COCO's `categories` list; `from_json` reads it back."""
        columns = {
            "id": self.ids,
            "name": self.names,
            "supercategory": self.supercategories,
            "frequency": self.frequency,
            "instance_count": self.counts,
            "image_share": self.image_shares,
            "area_ratio": self.area_ratios,
        }
        filled = {key: values for key, values in columns.items() if values}
        return [{key: values[i] for key, values in filled.items()} for i in range(len(self))]

    def index_map(self, target: "Categories", *, key: str = "categories") -> NDArray[np.int32]:
        """For each class here its label in `target`, joined by name. Raises `ConfigError` naming both tables."""
        missing = [name for name in self.names if name not in target.names]
        if missing:
            raise ConfigError(
                f"{key}: {', '.join(missing)} not among the expected classes "
                f"({', '.join(target.names)}); this table has {', '.join(self.names)}"
            )
        return np.array([target.names.index(name) for name in self.names], dtype=np.int32)


def _joined_masks(parts: Sequence[Instances]) -> Masks | None:
    masks = [part.masks for part in parts if part.masks is not None]
    if not masks:
        return None
    boxed = [one for one in masks if isinstance(one, BoxMasks)]
    if len(boxed) == len(masks):
        return BoxMasks.concatenate(
            [part.masks if isinstance(part.masks, BoxMasks) else BoxMasks.absent(part.boxes, 1) for part in parts]
        )
    runs = [one for one in masks if isinstance(one, RunMasks)]
    if len(runs) < len(masks):
        raise InputError("masks: expected masks of one kind; got patches in some parts and pixels in others")
    height, width = runs[0].runs.height, runs[0].runs.width
    return RunMasks.concatenate(
        [
            part.masks if isinstance(part.masks, RunMasks) else RunMasks.absent(height, width, count=len(part))
            for part in parts
        ]
    )


def _check_array(field: str, value: NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if value.shape != shape or value.dtype != dtype:
        raise InputError(
            f"{field}: expected {np.dtype(dtype)} of shape {shape}; got {value.dtype} of shape {value.shape}"
        )


def _first(values: NDArray[Any], wrong: Any) -> str:
    position = int(np.argmax(wrong))
    return f"{values[position].tolist()} at position {position}"
