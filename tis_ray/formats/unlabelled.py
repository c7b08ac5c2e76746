"""Unlabelled objects: a file of boxes in which a teacher has seen what nobody labelled, for the images of a data set.

One JSON object: `images` has `id`, `width`, `height` and lists `bboxes` (x, y, width, height as COCO has them) and
`scores` of each image with such boxes; `made_by` says how they were found and is not read. Boxes have no class: of what
a teacher calls a bus, training takes only that it is not background.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.errors import DataError
from tis_ray.formats.coco_checks import BORDER_TOLERANCE_PX, is_box, shown
from tis_ray.formats.coco_columns import CocoColumns, columns_of
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.json_file import load_json, write_json
from tis_ray.instances import Annotations, Categories
from tis_ray.ops import boxes as box_ops
from tis_ray.ops.boxes import Boxes

Found = tuple[Boxes, Sequence[float]]  # boxes (U, 4) xyxy of one image and their scores


class WithUnlabelled:
    """The data set `truth`, whose annotations have unlabelled boxes too. `len()` is its number of images.

    `boxes` are float32 (U, 4) xyxy in the frames of the images, by id; other images have none.
    """

    def __init__(self, truth: GroundTruth, boxes: Mapping[int, Boxes]) -> None:
        self._truth, self._boxes = truth, boxes

    @property
    def path(self) -> Path:
        """Where the labels are."""
        return self._truth.path

    @property
    def images(self) -> Sequence[ImageRecord]:
        """ImageRecords sorted by id."""
        return self._truth.images

    @property
    def categories(self) -> Categories:
        """The classes in the order of their ids."""
        return self._truth.categories

    @property
    def unscored(self) -> Collection[int]:
        """Ids of further classes that do not count either way."""
        return self._truth.unscored

    @property
    def in_memory(self) -> bool:
        """Whether `entries` are at hand."""
        return self._truth.in_memory

    @property
    def columns(self) -> CocoColumns | None:
        """What is labelled, in columns, where it is held that way."""
        return columns_of(self._truth)

    def __len__(self) -> int:
        return len(self._truth)

    def image(self, image_id: int) -> ImageRecord:
        """The record of one image; `DataError` for an id that there is none of."""
        return self._truth.image(image_id)

    def entries(self, image_id: int) -> Sequence[Mapping[str, Any]]:
        """What is labelled, in COCO's form."""
        return self._truth.entries(image_id)

    def annotations(self, image_id: int) -> Annotations:
        """Ground truth of one image and its unlabelled boxes."""
        boxes = self._boxes.get(image_id, np.zeros((0, 4), np.float32))
        return replace(self._truth.annotations(image_id), unlabelled=boxes)


def add_unlabelled(truth: GroundTruth, path: Path) -> WithUnlabelled:
    """The data set with the boxes of the file `path`, see `read_unlabelled`."""
    return WithUnlabelled(truth, read_unlabelled(path, truth))


def write_unlabelled(path: Path, found: Mapping[int, Found], truth: GroundTruth, *, made_by: Mapping[str, Any]) -> None:
    """Write what was found in the images of `truth`, by their ids; the file appears when it is whole."""
    images = []
    for image_id, (boxes, scores) in sorted(found.items()):
        record = truth.image(image_id)
        entry = {"id": image_id, "width": record.width, "height": record.height}
        xywh = np.round(box_ops.xyxy_to_xywh(boxes).astype(np.float64), 3).tolist()
        images.append(entry | {"bboxes": xywh, "scores": np.round(np.asarray(scores, np.float64), 6).tolist()})
    write_json(path, {"made_by": dict(made_by), "images": images})


def read_unlabelled(path: Path, truth: GroundTruth) -> dict[int, Boxes]:
    """The boxes of a file, float32 (U, 4) xyxy in the frame of each image, by id; cut to their images.

    Raises `DataError` naming file, image and field for a file that is not one of these or was made for another data
    set: an unknown image or one of another size, a box that is no box or lies outside of its image, scores that are not
    the boxes'.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        got = shown(content, "images") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: images: expected a list of images with boxes; got {got}")
    sizes_wh = {record.id: (record.width, record.height) for record in truth.images}
    boxes: dict[int, Boxes] = {}
    for position, entry in enumerate(content["images"]):
        where = f"{path}: images[{position}]"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected an object; got {type(entry).__name__}")
        id_ = entry.get("id")
        if type(id_) is not int or id_ not in sizes_wh or id_ in boxes:
            expected = "each image once" if id_ in boxes else f"one of the {len(sizes_wh)} images of {truth.path}"
            raise DataError(f"{where}: id: expected {expected}; got {shown(entry, 'id')}")
        boxes[id_] = _checked(f"{path}: image {id_}", entry, sizes_wh[id_])
    return boxes


def _checked(where: str, entry: Mapping[str, Any], size_wh: tuple[int, int]) -> Boxes:
    width, height = size_wh
    if (entry.get("width"), entry.get("height")) != size_wh:
        got = f"{shown(entry, 'width')}x{shown(entry, 'height')}"
        raise DataError(f"{where}: width and height: expected {width}x{height} as the data set has them; got {got}")
    bboxes, scores = entry.get("bboxes"), entry.get("scores")
    if not isinstance(bboxes, list):
        raise DataError(f"{where}: bboxes: expected a list of boxes; got {shown(entry, 'bboxes')}")
    for i, bbox in enumerate(bboxes):
        if not _is_inside(bbox, size_wh):
            expected = f"finite x, y, width, height of a box within {width}x{height}"
            raise DataError(f"{where}: bboxes[{i}]: expected {expected}; got {bbox}")
    if not isinstance(scores, list) or len(scores) != len(bboxes) or not all(map(_is_score, scores)):
        raise DataError(
            f"{where}: scores: expected {len(bboxes)} numbers in 0..1, one for each box; got {shown(entry, 'scores')}"
        )
    xywh: Any = np.array(bboxes, np.float64).reshape(-1, 4)
    return box_ops.clip(box_ops.xywh_to_xyxy(xywh).astype(np.float32), height, width)


def _is_inside(bbox: Any, size_wh: tuple[int, int]) -> bool:
    if not is_box(bbox) or not all(map(math.isfinite, bbox)):
        return False
    x, y, width, height = bbox
    spare = min(x, y, size_wh[0] - x - width, size_wh[1] - y - height)
    return bool(min(width, height) > 0 and spare >= -BORDER_TOLERANCE_PX)


def _is_score(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1
