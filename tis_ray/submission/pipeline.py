"""Batch runs: stream images through a segmenter with bounded work in flight; an image that fails ends no run.

The segmenter is the running service's fusion deployment (`service.ServiceSegmenter`) or anything else that answers
alike, so that one path writes every submission.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import DataError, ServiceError
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.images import open_image
from tis_ray.instances import Instances
from tis_ray.views import View


@dataclass(frozen=True, slots=True)
class Segmented:
    """What a segmenter finds: the fused instances and, where they were asked for, those of each view.

    missing: names of the views that did not answer, where the segmenter may go without them
    """

    instances: Instances
    views: Mapping[View, Instances] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


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


def segment_images(
    segmenter: Segmenter, images: Sequence[ListedImage], *, in_flight: int = 8, has_worked: bool = False
) -> Generator[ImageResult, None, None]:
    """Results in the order of `images`, at most `in_flight` of them opened or waiting at any time.

    An image that cannot be read or segmented yields a result with an `error`; the others go on. Raises `ServiceError`
    where the segmenter itself fails on `GIVE_UP_AFTER` images in a row, or on all of fewer, unless it `has_worked` on
    others before. Close the generator when stopping early: what has not begun then never does.
    """
    give_up_after = GIVE_UP_AFTER if has_worked else min(GIVE_UP_AFTER, len(images))
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
