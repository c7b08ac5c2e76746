"""What must hold in a COCO file before anything is made of it. Each check names file, entry and field."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tis_ray.errors import DataError
from tis_ray.formats import segmentation

BORDER_TOLERANCE_PX = 1.0
FEDERATED_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")

Entries = Sequence[Mapping[str, Any]]


def check_images(path: Path, entries: Entries, *, named: bool = True) -> None:
    """Ids given once, positive whole sizes, and file names where they are `named`."""
    _check_entries(path, "images", entries)
    for entry in entries:
        where = f"{path}: image {entry['id']}"
        name = entry.get("file_name")
        if named and (not isinstance(name, str) or not name):
            raise DataError(f"{where}: file_name: expected a name; got {shown(entry, 'file_name')}")
        for key in ("height", "width"):
            if not _is_int(entry.get(key)) or entry[key] < 1:
                raise DataError(f"{where}: {key}: expected a number of pixels; got {shown(entry, key)}")


def check_categories(path: Path, entries: Entries) -> None:
    """Ids given once, and names."""
    _check_entries(path, "categories", entries)
    for entry in entries:
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            raise DataError(f"{path}: category {entry['id']}: name: expected a name; got {shown(entry, 'name')}")


def check_federated(path: Path, entries: Entries, category_ids: Collection[int]) -> None:
    """LVIS's two lists of classes of an image, where it has them: ids of known categories."""
    known = set(category_ids)
    for entry in entries:
        for key in FEDERATED_KEYS:
            ids = entry.get(key, [])
            where = f"{path}: image {entry['id']}: {key}"
            if not isinstance(ids, list) or not all(_is_int(id_) for id_ in ids):
                raise DataError(f"{where}: expected a list of ids of categories; got {shown(entry, key)}")
            if not known.issuperset(ids):
                raise DataError(f"{where}: expected ids among categories; got {min(set(ids) - known)}")


def check_annotations(
    path: Path, entries: Entries, sizes_hw: Mapping[int, tuple[int, int]], category_ids: Collection[int]
) -> None:
    """Ids given once, known images and categories, boxes inside their images, masks of their images' size."""
    _check_entries(path, "annotations", entries)
    known = set(category_ids)
    for entry in entries:
        where = f"{path}: annotation {entry['id']}"
        if not _is_int(entry.get("image_id")) or entry["image_id"] not in sizes_hw:
            raise DataError(f"{where}: image_id: expected an id among images; got {shown(entry, 'image_id')}")
        if not _is_int(entry.get("category_id")) or entry["category_id"] not in known:
            raise DataError(f"{where}: category_id: expected an id among categories; got {shown(entry, 'category_id')}")
        if entry.get("iscrowd", 0) not in (0, 1):
            raise DataError(f"{where}: iscrowd: expected 0 or 1; got {shown(entry, 'iscrowd')}")
        if "area" in entry and not _is_size(entry["area"]):
            raise DataError(f"{where}: area: expected a number >= 0; got {shown(entry, 'area')}")
        if not is_box(entry.get("bbox")):
            raise DataError(f"{where}: bbox: expected 4 numbers x, y, width, height; got {shown(entry, 'bbox')}")
        problem = segmentation.problem_of(entry.get("segmentation"), *sizes_hw[entry["image_id"]])
        if problem:
            raise DataError(f"{where} of image {entry['image_id']}: segmentation: {problem}")
    _check_boxes(path, entries, sizes_hw)


def is_box(value: Any) -> bool:
    """Whether a JSON value is a list of four numbers, NaN included."""
    return isinstance(value, list) and len(value) == 4 and all(type(number) in (int, float) for number in value)


def _check_boxes(path: Path, entries: Entries, sizes_hw: Mapping[int, tuple[int, int]]) -> None:
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    sizes_wh = np.array([sizes_hw[entry["image_id"]][::-1] for entry in entries], dtype=np.float64).reshape(-1, 2)
    corner, far = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]

    def refuse(wrong: Any, expected: str) -> NoReturn:
        i = int(np.argmax(wrong))
        entry, (width, height) = entries[i], sizes_wh[i].astype(int)
        raise DataError(
            f"{path}: annotation {entry['id']}: bbox: expected {expected}; "
            f"got {entry['bbox']} in image {entry['image_id']} of {width}x{height}"
        )

    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
    if wrong.any():
        refuse(wrong, "finite numbers, width and height not negative")
    wrong = (corner >= sizes_wh).any(axis=1) | (far < 0).any(axis=1) | ((far <= 0) & (boxes[:, 2:] > 0)).any(axis=1)
    if wrong.any():
        refuse(wrong, "a box inside its image")
    wrong = (corner < -BORDER_TOLERANCE_PX).any(axis=1) | (far > sizes_wh + BORDER_TOLERANCE_PX).any(axis=1)
    if wrong.any():
        refuse(wrong, f"a box inside its image, or at most {BORDER_TOLERANCE_PX:g} px beyond the border")


def _check_entries(path: Path, field: str, entries: Entries) -> None:
    """Every entry an object with a whole number as id, each id once."""
    seen: set[int] = set()
    for position, entry in enumerate(entries):
        where = f"{path}: {field}[{position}]"
        if not isinstance(entry, Mapping):
            raise DataError(f"{where}: expected an object; got {type(entry).__name__}")
        if not _is_int(entry.get("id")):
            raise DataError(f"{where}: id: expected a whole number; got {shown(entry, 'id')}")
        if entry["id"] in seen:
            raise DataError(f"{where}: id: expected each id once; got {entry['id']} twice")
        seen.add(entry["id"])


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _is_int(value: Any) -> bool:
    return type(value) is int


def shown(entry: Mapping[str, Any], key: str) -> str:
    """What an entry has under a key, cut to fit a message."""
    if key not in entry:
        return "no such key"
    text = repr(entry[key])
    return text if len(text) <= 80 else text[:77] + "..."
