"""Batch runs: stream images through a segmenter with bounded work in flight, record failures, write results.

The segmenter is the running service's fusion deployment (`service.ServiceSegmenter`) or anything else that answers
alike, so that one path writes every submission.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tis_ray.errors import ConfigError, DataError, ServiceError
from tis_ray.formats.coco_results import ResultsWriter, to_results
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.images import open_image
from tis_ray.instances import Categories, Instances
from tis_ray.views import View


@dataclass(frozen=True, slots=True)
class Segmented:
    """What a segmenter finds: the fused instances and, where they were asked for, those of each view."""

    instances: Instances
    views: Mapping[View, Instances] = field(default_factory=dict)


Segmenter = Callable[[NDArray[np.uint8]], Segmented]
GIVE_UP_AFTER = 8  # images in a row that the segmenter failed on


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image of a batch run: either `found`, or the `error` that kept it from being seen.

    size_hw: height and width in px; (0, 0) where the image could not be opened
    """

    image: ListedImage
    size_hw: tuple[int, int] = (0, 0)
    found: Segmented | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch run wrote. `num_dropped` instances were of classes that the written table does not have."""

    num_images: int
    num_instances: int
    failed: tuple[ImageResult, ...]
    failures_file: Path | None
    num_dropped: int = 0


def segment_images(
    segmenter: Segmenter, images: Sequence[ListedImage], *, in_flight: int = 8
) -> Generator[ImageResult, None, None]:
    """Results in the order of `images`, at most `in_flight` of them opened or waiting at any time.

    An image that cannot be read or segmented yields a result with an `error`; the others go on. Raises `ServiceError`
    where the segmenter itself fails on `GIVE_UP_AFTER` images in a row, or on all of fewer. Close the generator when
    stopping early: what has not begun then never does.
    """
    give_up_after = min(GIVE_UP_AFTER, len(images))
    failed_in_a_row = 0
    for result in _in_order(segmenter, images, in_flight):
        if result.found is not None:
            failed_in_a_row = 0
        elif result.size_hw != (0, 0):
            failed_in_a_row += 1
            if failed_in_a_row == give_up_after:
                raise ServiceError(
                    f"gave up after {give_up_after} images in a row, {result.image.file_name} the last: {result.error}"
                )
        yield result


def _in_order(
    segmenter: Segmenter, images: Sequence[ListedImage], in_flight: int
) -> Generator[ImageResult, None, None]:
    pool = ThreadPoolExecutor(max_workers=in_flight, thread_name_prefix="segment")
    waiting: deque[Future[ImageResult]] = deque()
    try:
        for image in images:
            waiting.append(pool.submit(_segment_one, segmenter, image))
            if len(waiting) >= in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def class_map(found: Categories, written: Categories) -> NDArray[np.int32]:
    """For each class of `found` its label in `written`, joined by name; -1 where `written` lacks it.

    Raises `ConfigError` naming both tables where they share no name.
    """
    labels = {name: label for label, name in enumerate(written.names)}
    mapped = np.array([labels.get(name, -1) for name in found.names], dtype=np.int32)
    if (mapped < 0).all():
        raise ConfigError(
            f"categories: expected some of the ensemble's ({', '.join(found.names)}); got {', '.join(written.names)}"
        )
    return mapped


def write_coco(
    results: Iterable[ImageResult], out: Path, *, categories: Categories, written: Categories | None = None
) -> Summary:
    """Stream results, whose labels are those of `categories`, into COCO's results JSON at `out`.

    `written` is the data set's own table, where it is another: its ids are written, joined by name, and instances of
    classes that it lacks are left out. The file appears when it is whole; failed images are listed with their reasons
    in `<out>.failed.json`, and a file of that name from an earlier run goes.
    """
    written = written or categories
    index_map = class_map(categories, written)
    num_images = num_instances = num_dropped = 0
    failed: list[ImageResult] = []
    with ResultsWriter(out) as writer:
        for result in results:
            num_images += 1
            if result.found is None:
                failed.append(result)
                continue
            instances = result.found.instances.relabelled(index_map)
            num_instances += len(instances)
            num_dropped += len(result.found.instances) - len(instances)
            writer.write(to_results(instances, image_id=result.image.id, categories=written, size_hw=result.size_hw))
        failures_file = _write_failures(out, failed)
    return Summary(num_images, num_instances, tuple(failed), failures_file, num_dropped)


def write_whole(path: Path, content: object) -> None:
    """Write `content` as JSON; the file appears when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _segment_one(segmenter: Segmenter, image: ListedImage) -> ImageResult:
    size_hw = (0, 0)
    try:
        pixels = open_image(image.path)
        if image.size_hw not in (None, pixels.shape[:2]):
            raise DataError(f"{image.path}: expected {image.size_hw} (height, width) as listed; got {pixels.shape[:2]}")
        size_hw = (pixels.shape[0], pixels.shape[1])
        return ImageResult(image, size_hw, segmenter(pixels))
    except Exception as error:  # a batch run outlives any one image
        return ImageResult(image, size_hw, error=" ".join(str(error).split())[:1000] or type(error).__name__)


def _write_failures(out: Path, failed: Sequence[ImageResult]) -> Path | None:
    path = out.with_suffix(".failed.json")
    if not failed:
        path.unlink(missing_ok=True)
        return None
    write_whole(
        path, [{"image_id": one.image.id, "file_name": one.image.file_name, "error": one.error} for one in failed]
    )
    return path
