"""Batch runs: stream images through a segmenter with bounded work in flight, record failures, write results.

The segmenter is the running service's fusion deployment (`service_segmenter`) or anything else that answers
alike, so that one path writes every submission.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tis_ray.errors import DataError, ServiceError
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


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image of a batch run: either `found` with the image's size, or the `error` that kept it from being seen."""

    image: ListedImage
    size_hw: tuple[int, int] = (0, 0)
    found: Segmented | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch run wrote."""

    num_images: int
    num_instances: int
    failed: tuple[ImageResult, ...]
    failures_file: Path | None


def segment_images(segmenter: Segmenter, images: Sequence[ListedImage], *, in_flight: int = 8) -> Iterator[ImageResult]:
    """Results in the order of `images`, at most `in_flight` of them opened or waiting at any time.

    An image that cannot be read or segmented yields a result with an `error`; the others go on.
    """
    with ThreadPoolExecutor(max_workers=in_flight, thread_name_prefix="segment") as pool:
        waiting: deque[Future[ImageResult]] = deque()
        try:
            for image in images:
                waiting.append(pool.submit(_segment_one, segmenter, image))
                if len(waiting) >= in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def write_coco(results: Iterable[ImageResult], out: Path, *, categories: Categories) -> Summary:
    """Stream results into COCO's results JSON at `out`, which appears when it is whole.

    Failed images are listed with their reasons in `<out>.failed.json`; a file of that name from an earlier run goes.
    """
    num_images = num_instances = 0
    failed: list[ImageResult] = []
    with ResultsWriter(out) as writer:
        for result in results:
            num_images += 1
            if result.found is None:
                failed.append(result)
            else:
                num_instances += len(result.found.instances)
                writer.write(
                    to_results(
                        result.found.instances,
                        image_id=result.image.id,
                        categories=categories,
                        size_hw=result.size_hw,
                    )
                )
    return Summary(num_images, num_instances, tuple(failed), _write_failures(out, failed))


def service_segmenter(handle: Any, views: Sequence[View], *, deadline_s: float, keep_views: bool = False) -> Segmenter:
    """A segmenter over the handle of a running fusion deployment; `keep_views` brings each view's instances too.

    The image crosses processes once, by reference. Raises `ServiceError` where a view failed or was late.
    """
    import ray

    def segment(image: NDArray[np.uint8]) -> Segmented:
        response = handle.segment.remote(
            [ray.put(image)],
            image_hw=image.shape[:2],
            deadline_s=deadline_s,
            explain="masks" if keep_views else "none",
        )
        answer = response.result(timeout_s=deadline_s + 5)
        if answer.instances is None:
            missing = [f"{report.view.name} ({report.status})" for report in answer.reports if report.status != "ok"]
            raise ServiceError(f"views failed: {', '.join(missing)}")
        found = {report.view: report.found for report in answer.reports if report.found is not None}
        return Segmented(answer.instances, {view: found[view] for view in views if view in found})

    return segment


def _segment_one(segmenter: Segmenter, image: ListedImage) -> ImageResult:
    try:
        pixels = open_image(image.path)
        size_hw = (pixels.shape[0], pixels.shape[1])
        if image.size_hw not in (None, size_hw):
            raise DataError(f"{image.path}: expected {image.size_hw} (height, width) as listed; got {size_hw}")
        return ImageResult(image, size_hw, segmenter(pixels))
    except Exception as error:  # a batch run outlives any one image
        return ImageResult(image, error=" ".join(str(error).split())[:1000] or type(error).__name__)


def _write_failures(out: Path, failed: Sequence[ImageResult]) -> Path | None:
    path = out.with_suffix(".failed.json")
    if not failed:
        path.unlink(missing_ok=True)
        return None
    entries = [{"image_id": one.image.id, "file_name": one.image.file_name, "error": one.error} for one in failed]
    path.write_bytes(orjson.dumps(entries, option=orjson.OPT_INDENT_2))
    return path
