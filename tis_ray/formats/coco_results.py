"""COCO results: one dict per found instance, written as a stream and checked when read.

`bbox` is x, y, width, height; `segmentation`, where there are masks, a compressed RLE. `mask_score`, where a detector
predicts how well its masks fit, is the score by which the mask is ranked: `score`, by which its box is, or less.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
from pycocotools import mask as coco_mask

from tis_ray import whole_files
from tis_ray.errors import DataError
from tis_ray.formats import segmentation
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.coco_checks import is_box, shown
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.json_stream import JsonStream
from tis_ray.instances import Categories, Instances
from tis_ray.ops import boxes as box_ops

_FARTHEST_PX = 1e9  # float32 knows no pixels beyond it
SCORE_DECIMALS = 6


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
    scores = np.round(instances.scores.astype(np.float64), SCORE_DECIMALS).tolist()
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": categories.ids[label], "bbox": bbox, "score": score}
        for label, bbox, score in zip(instances.labels.tolist(), xywh, scores, strict=True)
    ]
    if masks and instances.masks is not None:
        for result, rle in zip(results, instances.masks.to_rle(*size_hw), strict=True):
            if rle is not None:
                result["segmentation"] = rle
        if instances.masks.quality is not None:
            mask_scores = np.round(instances.mask_scores.astype(np.float64), SCORE_DECIMALS).tolist()
            for result, mask_score in zip(results, mask_scores, strict=True):
                if "segmentation" in result:
                    result["mask_score"] = mask_score
    return results


class ResultsWriter:
    """Writes results as one JSON array, part by part; the file gets its name only when all went well.

    `with ResultsWriter(path) as writer: writer.write(results)`. After an exception nothing is left behind, and
    a file of that name from before stays as it was.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.num_results = 0
        self._partial = whole_files.partial_of(self.path)

    def __enter__(self) -> Self:
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise self._refused(error) from None
        self._file.write(b"[")
        return self

    def write(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Append results."""
        try:
            for result in results:
                self._file.write(b",\n" if self.num_results else b"\n")
                self._file.write(orjson.dumps(result))
                self.num_results += 1
        except OSError as error:
            raise self._refused(error) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.write(b"\n]\n")
            self._file.close()
            if kind is None:
                whole_files.replace(self._partial, self.path)
        except OSError as failure:  # a full disk tells of itself again, or for the first time
            if kind is None:
                raise self._refused(failure) from None
        finally:
            whole_files.remove(self._partial)

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written ({error.strerror})")


def read_results(path: Path | str, dataset: GroundTruth, *, bad: BadEntries | None = None) -> list[dict[str, Any]]:
    """All of `stream_results` at once."""
    return list(stream_results(path, dataset, bad=bad))


def stream_results(
    path: Path | str, dataset: GroundTruth, *, bad: BadEntries | None = None
) -> Iterator[dict[str, Any]]:
    """Read and check any framework's results for the images of `dataset`, one at a time, in the order of the file.

    Masks of any spelling become compressed RLEs; a result with a mask alone gets the mask's box. Results of classes
    that the data set leaves unscored are left out. Wrong ones, of an unknown image or category, with NaN, a score
    outside 0..1, a mask's score above that of its box, a mask of another image size, are counted in `bad`, and left
    out where it skips them; else, at the end of the file, `DataError` names and counts them by position, image and
    field. A file that is no list of results raises it at once.
    """
    bad = BadEntries() if bad is None else bad
    known = set(dataset.categories.ids)
    sizes_hw = {record.id: (record.height, record.width) for record in dataset.images}
    with JsonStream(path) as stream:
        if stream.peek() != "[":
            found = "an object" if stream.peek() == "{" else type(stream.value()).__name__
            raise DataError(f"{path}: expected a list of results; got {found}")
        for i, result in enumerate(stream.items()):
            if _is_of(result, dataset.unscored):
                continue
            if problem := _problem_of(result, sizes_hw, known):
                image = f" of image {result['image_id']}" if problem[0] not in ("entry", "image_id") else ""
                bad.add(path, problem[0], f"result {i}{image}: {problem[1]}")
            else:
                yield _with_rle(result, sizes_hw)
        stream.end()
    bad.check(path, "results")


def _problem_of(
    result: Any, sizes_hw: Mapping[int, tuple[int, int]], category_ids: Collection[int]
) -> tuple[str, str] | None:
    """The field of a result that is wrong, and what was expected there and came; None where all is well."""
    if not isinstance(result, dict):
        return "entry", f"expected an object; got {type(result).__name__}"
    image_id, category_id, bbox, mask = (result.get(key) for key in ("image_id", "category_id", "bbox", "segmentation"))
    for field, holds, expected in (
        ("image_id", type(image_id) is int and image_id in sizes_hw, "one of the data set's"),
        ("category_id", type(category_id) is int and category_id in category_ids, "one of the data set's"),
        ("score", _is_score(result.get("score")), "a number in 0..1"),
        ("mask_score", _is_mask_score(result.get("mask_score"), result.get("score")), "a number from 0 to the score"),
        ("bbox", _is_box_in_px(bbox) or (bbox is None and _is_masked(mask)), "finite x, y and a width and height >= 0"),
    ):
        if not holds:
            return field, f"{field}: expected {expected}; got {shown(result, field)}"
    problem = segmentation.problem_of(mask, *sizes_hw[result["image_id"]])
    return None if problem is None else ("segmentation", f"segmentation: {problem}")


def _with_rle(result: dict[str, Any], sizes_hw: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    bbox, mask = result.get("bbox"), result.get("segmentation")
    if not _is_masked(mask):
        return {key: value for key, value in result.items() if key != "segmentation"}
    rle = segmentation.to_rle(mask, bbox or [], *sizes_hw[result["image_id"]])
    return {**result, "bbox": bbox or coco_mask.toBbox(rle).tolist(), "segmentation": rle}


def _is_masked(mask: Any) -> bool:
    return mask is not None and mask != []


def _is_of(result: Any, category_ids: Collection[int]) -> bool:
    return isinstance(result, dict) and result.get("category_id") in category_ids


def _is_score(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_mask_score(value: Any, score: Any) -> bool:
    return value is None or (_is_score(value) and _is_score(score) and value <= score)


def _is_box_in_px(value: Any) -> bool:
    return is_box(value) and all(-_FARTHEST_PX < number < _FARTHEST_PX for number in value) and min(value[2:]) >= 0
