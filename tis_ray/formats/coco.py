"""COCO data sets: images, categories and instance annotations of one JSON file.

Masks are decoded image by image when asked for. Everything else is checked once, when the file is read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import DataError
from tis_ray.formats import segmentation
from tis_ray.formats.coco_checks import (
    FEDERATED_KEYS,
    check_annotations,
    check_categories,
    check_federated,
    check_images,
    shown,
)
from tis_ray.formats.coco_columns import CocoColumns, LazyEntries
from tis_ray.formats.dataset import Federated, ImageRecord
from tis_ray.formats.json_file import load_json
from tis_ray.formats.json_stream import JsonStream
from tis_ray.formats.locations import is_dir, is_file, place
from tis_ray.instances import Annotations, Categories
from tis_ray.masks import CropMasks
from tis_ray.ops import boxes as box_ops


class CocoDataset:
    """A checked COCO file. `len()` is its number of images.

    path:       the JSON file
    images:     ImageRecords sorted by id
    categories: the classes in the order of their ids; a class may have no instance
    columns:    all annotations, where they are held that way; None where the file's own entries are
    """

    __slots__ = ("_entries", "_labels", "_records", "categories", "columns", "images", "path")
    unscored: tuple[int, ...] = ()
    in_memory = True

    def __init__(
        self,
        path: Path,
        images: Sequence[ImageRecord],
        categories: Categories,
        entries: Sequence[Mapping[str, Any]] | CocoColumns,
    ) -> None:
        self.path = path
        self.images = tuple(sorted(images, key=lambda record: record.id))
        self.categories = categories
        self._records = {record.id: record for record in self.images}
        self._labels = {category_id: label for label, category_id in enumerate(categories.ids)}
        self.columns = entries if isinstance(entries, CocoColumns) else None
        self._entries = (
            LazyEntries(entries, self.images) if isinstance(entries, CocoColumns) else self._grouped(entries)
        )

    def __len__(self) -> int:
        return len(self.images)

    def image(self, image_id: int) -> ImageRecord:
        """The record of one image; `DataError` for an id that the file does not list."""
        if image_id not in self._records:
            raise DataError(f"{self.path}: expected an id of its {len(self)} images; got {image_id}")
        return self._records[image_id]

    def entries(self, image_id: int) -> Sequence[Mapping[str, Any]]:
        """The annotations of one image as the file has them, those with a box of no area included."""
        self.image(image_id)
        return self._entries[image_id]

    def annotations(self, image_id: int) -> Annotations:
        """Ground truth of one image, in the order of the file, masks decoded now.

        Boxes are cut to the image. An annotation whose box has no area (COCO has a few) is left out: nothing
        could be learned from it. One without a segmentation has a mask that fills its box.
        """
        record = self.image(image_id)
        entries = [entry for entry in self._entries[image_id] if min(entry["bbox"][2:]) > 0]
        xywh: Any = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
        boxes = box_ops.xywh_to_xyxy(xywh).astype(np.float32)  # added in float64, as COCO's numbers are
        rles = [
            segmentation.to_rle(entry.get("segmentation"), entry["bbox"], record.height, record.width)
            for entry in entries
        ]
        return Annotations(
            box_ops.clip(boxes, record.height, record.width),
            np.array([self._labels[entry["category_id"]] for entry in entries], dtype=np.int32),
            CropMasks.from_rle(rles),
            np.array([bool(entry.get("iscrowd", 0)) for entry in entries], dtype=np.bool_),
            unverified=self._unverified(record),
        )

    def _grouped(self, entries: Sequence[Mapping[str, Any]]) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        grouped: dict[int, list[Mapping[str, Any]]] = {record.id: [] for record in self.images}
        for entry in entries:
            grouped[entry["image_id"]].append(entry)
        return grouped

    def _unverified(self, record: ImageRecord) -> NDArray[np.bool_] | None:
        """Bool (K,), see `Annotations`; a class that is annotated and also said to be absent was looked for."""
        if record.federated is None:
            return None
        unverified = np.ones(len(self.categories), dtype=np.bool_)
        unverified[[self._labels[entry["category_id"]] for entry in self._entries[record.id]]] = False
        unverified[[self._labels[id_] for id_ in record.federated.absent]] = False
        unverified[[self._labels[id_] for id_ in record.federated.not_exhaustive]] = True
        return unverified


def read(annotations: Path | str, images: Path | str | None = None, *, annotated: bool = True) -> CocoDataset:
    """Read and check a COCO JSON file; `DataError` names the file, the entry and the field of what is wrong.

    images:    folder of the image files. By default `images/` beside the JSON or the JSON's own folder, the
               first of them that holds the image of the lowest id. The files themselves are not opened. LVIS's, which
               are COCO's of 2017, are looked for in `train2017/` and `val2017/` of it.
    annotated: False accepts a file without `annotations`, such as COCO's list of test images.

    A box may exceed its image by up to 1 px, as COCO's rounded boxes do.
    """
    path = place(annotations)
    return of_content(path, load_json(path), images, annotated=annotated)


def of_content(path: Path, content: Any, images: Path | str | None = None, *, annotated: bool = True) -> CocoDataset:
    """What `read` answers for a file at `path` with this content, checked here."""
    needed = ["images", "categories", *(["annotations"] if annotated else [])]
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with {', '.join(needed)}; got {type(content).__name__}")
    for key in needed:
        if not isinstance(content.get(key), list):
            raise DataError(f"{path}: {key}: expected a list; got {shown(content, key)}")
    entries, listed = content.get("annotations", []), [named(entry) for entry in content["images"]]
    check_images(path, listed)
    categories = _categories(path, content["categories"])
    check_federated(path, listed, categories.ids)
    first = min(listed, key=lambda entry: entry["id"], default=None)
    folder = place(images) if images is not None else image_folder(path, None if first is None else first["file_name"])
    records = [
        ImageRecord(
            entry["id"],
            entry["file_name"],
            folder / entry["file_name"],
            entry["height"],
            entry["width"],
            _federated(entry),
        )
        for entry in listed
    ]
    check_annotations(path, entries, {record.id: (record.height, record.width) for record in records}, categories.ids)
    return CocoDataset(path, records, categories, entries)


def read_frames(path: Path | str) -> CocoDataset:
    """The images' ids and sizes and the categories of a COCO JSON file, without annotations, which are passed over.

    That is what results are fused in: images need no `file_name`, and memory does not follow the annotations.
    """
    path = Path(path)
    found: dict[str, Any] = {}
    with JsonStream(path) as stream:
        if stream.peek() != "{":
            got = "a list" if stream.peek() == "[" else type(stream.value()).__name__
            raise DataError(f"{path}: expected an object with images, categories; got {got}")
        for key in stream.members():
            if key in ("images", "categories"):
                found[key] = stream.value()
            else:
                stream.skip()
        stream.end()
    for key in ("images", "categories"):
        if not isinstance(found.get(key), list):
            raise DataError(f"{path}: {key}: expected a list; got {shown(found, key)}")
    check_images(path, found["images"], named=False)
    records = [
        ImageRecord(entry["id"], name, path.parent / name, entry["height"], entry["width"])
        for entry, name in ((entry, str(entry.get("file_name") or entry["id"])) for entry in found["images"])
    ]
    return CocoDataset(path, records, _categories(path, found["categories"]), ())


def named(entry: Any) -> Any:
    """An image's entry, with the folder and the file of COCO's address as its name where LVIS needs that.

    LVIS v1 has no names; those of v0.5 (COCO_val2014_000000266409.jpg) are of 2014, its images (val2017/...) of 2017.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("coco_url"), str):
        return entry
    name, address = entry.get("file_name"), "/".join(entry["coco_url"].split("/")[-2:])
    renamed = isinstance(name, str) and name.startswith("COCO_") and name.endswith("_" + address.split("/")[-1])
    return {**entry, "file_name": address} if "file_name" not in entry or renamed else entry


def _federated(entry: Mapping[str, Any]) -> Federated | None:
    """LVIS's lists of an image, None where it has neither; one alone stands beside an empty one."""
    if not any(key in entry for key in FEDERATED_KEYS):
        return None
    return Federated(*(tuple(entry.get(key, ())) for key in FEDERATED_KEYS))


def _categories(path: Path, entries: Sequence[Mapping[str, Any]]) -> Categories:
    check_categories(path, entries)
    try:
        return Categories.from_json(entries)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def image_folder(path: Path, first: str | None) -> Path:
    """`images/` beside a JSON or the JSON's own folder: the one that holds the first image, if there is any."""
    beside = path.parent / "images"
    for folder in (beside, path.parent):
        if first is not None and is_file(folder / first):
            return folder
    return beside if is_dir(beside) else path.parent
