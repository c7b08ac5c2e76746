"""COCO results: one dict per found instance, written as a stream and checked when read.

`bbox` is x, y, width, height; `segmentation`, where there are masks, a compressed RLE.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
from pycocotools import mask as coco_mask

from tis_ray.errors import DataError
from tis_ray.formats import segmentation
from tis_ray.formats.coco_checks import is_box, shown
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.json_file import load_json
from tis_ray.instances import Categories, Instances
from tis_ray.ops import boxes as box_ops


def to_results(
    instances: Instances,
    *,
    image_id: int,
    categories: Categories,
    size_hw: tuple[int, int],
    masks: bool = True,
) -> list[dict[str, Any]]:
    """The instances of one image as COCO results, in their order: plain numbers, px to 3 decimals, scores to 6.

    Masks are written at `size_hw`, the image's height and width, where `masks` is true; a result without one has no
    `segmentation`.
    """
    xywh = np.round(box_ops.xyxy_to_xywh(instances.boxes).astype(np.float64), 3).tolist()
    scores = np.round(instances.scores.astype(np.float64), 6).tolist()
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": categories.ids[label], "bbox": bbox, "score": score}
        for label, bbox, score in zip(instances.labels.tolist(), xywh, scores, strict=True)
    ]
    if masks and instances.masks is not None:
        for result, rle in zip(results, instances.masks.to_rle(*size_hw), strict=True):
            if rle is not None:
                result["segmentation"] = rle
    return results


class ResultsWriter:
    """Writes results as one JSON array, part by part; the file gets its name only when all went well.

    `with ResultsWriter(path) as writer: writer.write(results)`. After an exception nothing is left behind, and
    a file of that name from before stays as it was.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.num_results = 0
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> Self:
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._file.write(b"[")
        return self

    def write(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Append results."""
        for result in results:
            self._file.write(b",\n" if self.num_results else b"\n")
            self._file.write(orjson.dumps(result))
            self.num_results += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.write(b"\n]\n")
            self._file.close()
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def read_results(path: Path | str, dataset: GroundTruth) -> list[dict[str, Any]]:
    """Read and check any framework's results for the images of `dataset`.

    Masks of any spelling become compressed RLEs; a result with a mask alone gets the mask's box. Results of classes
    that the data set leaves unscored are left out. Raises `DataError` naming file, position and field: an unknown image
    or category, NaN, a score outside 0..1, a mask of another image size.
    """
    path = Path(path)
    results = load_json(path)
    if not isinstance(results, list):
        raise DataError(f"{path}: expected a list of results; got {type(results).__name__}")
    known = set(dataset.categories.ids)
    sizes_hw = {record.id: (record.height, record.width) for record in dataset.images}
    scored = [(i, one) for i, one in enumerate(results) if not _is_of(one, dataset.unscored)]
    return [_checked(f"{path}: result {i}", result, sizes_hw, known) for i, result in scored]


def _checked(
    where: str, result: Any, sizes_hw: Mapping[int, tuple[int, int]], category_ids: set[int]
) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise DataError(f"{where}: expected an object; got {type(result).__name__}")
    for field, known in (("image_id", sizes_hw), ("category_id", category_ids)):
        if type(result.get(field)) is not int or result[field] not in known:
            raise DataError(f"{where}: {field}: expected one of the data set's; got {shown(result, field)}")
    if not _is_score(result.get("score")):
        raise DataError(f"{where}: score: expected a number in 0..1; got {shown(result, 'score')}")
    size_hw, mask, bbox = sizes_hw[result["image_id"]], result.get("segmentation"), result.get("bbox")
    problem = segmentation.problem_of(mask, *size_hw)
    if problem:
        raise DataError(f"{where}: segmentation: {problem}")
    if not (_is_finite_box(bbox) or (bbox is None and mask)):
        raise DataError(f"{where}: bbox: expected finite x, y and a width and height >= 0; got {shown(result, 'bbox')}")
    if not mask:
        return {key: value for key, value in result.items() if key != "segmentation"}
    rle = segmentation.to_rle(mask, bbox or [], *size_hw)
    return {**result, "bbox": bbox or coco_mask.toBbox(rle).tolist(), "segmentation": rle}


def _is_of(result: Any, category_ids: Collection[int]) -> bool:
    return isinstance(result, dict) and result.get("category_id") in category_ids


def _is_score(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_finite_box(value: Any) -> bool:
    return is_box(value) and bool(np.isfinite(value).all()) and min(value[2:]) >= 0
