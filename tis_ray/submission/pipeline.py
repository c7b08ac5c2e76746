"""Batch runs: stream images through a segmenter with bounded work in flight; an image that fails ends no run.

The segmenter is the running service's fusion deployment (`service.ServiceSegmenter`) or anything else that answers
alike, so that one path writes every submission.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tis_ray.config.data_path import is_remote
from tis_ray.errors import DataError, ServiceError
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.images import open_image
from tis_ray.instances import Instances
from tis_ray.runs.records import ImageOutcome, ImageViews, ViewOutcome
from tis_ray.submission.window import Window
from tis_ray.views import View


@dataclass(frozen=True, slots=True)
class Segmented:
    """What a segmenter finds: the fused instances and, where they were asked for, those of each view.

    outcomes: how each view fared, in the ensemble's order, where the segmenter tells
    model_version: of the members that answered, where the segmenter knows it
    """

    instances: Instances
    views: Mapping[View, Instances] = field(default_factory=dict)
    outcomes: tuple[ViewOutcome, ...] = ()
    model_version: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the views that did not answer, where the segmenter may go without them."""
        return tuple(one.view for one in self.outcomes if one.status != "ok")


Segmenter = Callable[[NDArray[np.uint8]], Segmented]
GIVE_UP_AFTER = 8  # images in a row that the segmenter failed on


@dataclass(slots=True)
class Streak:
    """How a segmenter has done so far: whether it ever answered, and on how many images in a row it has just failed.

    at_first: on how many it may fail before it has answered
    """

    has_worked: bool = False
    at_first: int = GIVE_UP_AFTER
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image of a batch run: either `found`, or the `error` that kept it from being seen.

    size_hw: height and width in px; (0, 0) where the image could not be opened
    file_bytes: how long the file was just before it was opened, None where nobody could say
    """

    image: ListedImage
    size_hw: tuple[int, int] = (0, 0)
    found: Segmented | None = None
    error: str = ""
    file_bytes: int | None = None

    @property
    def outcome(self) -> ImageOutcome:
        """What a batch run notes of it."""
        found = Segmented(Instances.empty()) if self.found is None else self.found
        return ImageOutcome(
            image_id=self.image.id,
            file_name=self.image.file_name,
            size_hw=self.size_hw,
            status="failed" if self.found is None else "degraded" if found.missing else "ok",
            instances=found.instances,
            error=self.error,
            outcomes=found.outcomes,
            file_bytes=self.file_bytes,
            model_version=found.model_version,
        )

    @property
    def views(self) -> ImageViews:
        """What each view found by itself, as far as that is known."""
        return ImageViews(self.image.id, self.size_hw, {} if self.found is None else self.found.views)


def segment_images(
    segmenter: Segmenter,
    images: Sequence[ListedImage],
    *,
    in_flight: int | Window = 8,
    has_worked: bool = False,
    streak: Streak | None = None,
) -> Generator[ImageResult, None, None]:
    """Results in the order of `images`, at most `in_flight` of them opened or waiting at any time, or as many as there
    is room for in a window that is shared with other calls.

    An image that cannot be read or segmented yields a result with an `error`; the others go on. Raises `ServiceError`
    where the segmenter itself fails on `GIVE_UP_AFTER` images in a row, or on all of fewer, unless it `has_worked` on
    others before. Whoever segments images in several calls passes the same `streak` to all, in place of `has_worked`.
    Close the generator when stopping early: what has not begun then never does.
    """
    streak = streak or Streak(has_worked, at_first=min(GIVE_UP_AFTER, len(images)))
    for result in _in_order(segmenter, images, in_flight):
        if result.found is not None:
            streak.has_worked, streak.failed = True, 0
        elif result.size_hw != (0, 0):
            streak.failed += 1
            if streak.failed >= (GIVE_UP_AFTER if streak.has_worked else streak.at_first):
                raise ServiceError(
                    f"gave up after {streak.failed} images in a row, {result.image.file_name} the last: {result.error}"
                )
        yield result


def _in_order(
    segmenter: Segmenter, images: Sequence[ListedImage], in_flight: int | Window
) -> Generator[ImageResult, None, None]:
    work = partial(_segment_one, segmenter)
    if isinstance(in_flight, Window):
        with closing(in_flight.results(work, images)) as results:
            yield from results
    else:
        with closing(Window(in_flight)) as window:
            yield from window.results(work, images)


def _segment_one(segmenter: Segmenter, image: ListedImage) -> ImageResult:
    size_hw, file_bytes = (0, 0), None
    try:
        file_bytes = bytes_of(image.path)
        pixels = open_image(image.path)
        if image.size_hw not in (None, pixels.shape[:2]):
            raise DataError(f"{image.path}: expected {image.size_hw} (height, width) as listed; got {pixels.shape[:2]}")
        size_hw = (pixels.shape[0], pixels.shape[1])
        return ImageResult(image, size_hw, segmenter(pixels), file_bytes=file_bytes)
    except Exception as error:  # a batch run outlives any one image
        told = " ".join(str(error).split())[:1000] or type(error).__name__
        return ImageResult(image, size_hw, error=told, file_bytes=file_bytes)


def bytes_of(path: Path) -> int | None:
    """How long a file is; None where it is gone, or lies behind a URL."""
    try:
        return None if is_remote(path) else path.stat().st_size
    except OSError:
        return None
