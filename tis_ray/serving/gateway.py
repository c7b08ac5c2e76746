"""The gateway's side of a request: image bytes in, the JSON answer out. HTTP itself is in `routes`."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tis_ray.config import Ensemble, Limits
from tis_ray.errors import InputError
from tis_ray.formats.images import PixelLimitError, decode_image
from tis_ray.formats.training_sizes import TRAINING_SIZES
from tis_ray.instances import Categories
from tis_ray.serving import answer
from tis_ray.serving.calls import FusionCall
from tis_ray.serving.messages import Deadline, DeadlineError, FusedAnswer, OverloadError, UnavailableError
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.schemas import SegmentQuery
from tis_ray.views import SizeHW

logger = logging.getLogger("ray.serve")

RETRY_AFTER = {"Retry-After": "1"}
STOPPING = "the service is shutting down"
_RECOVERY = {"Retry-After": "5"}  # a replica that died needs some seconds to be replaced
# An answer needs a moment to travel: the work ends that much before the client's deadline.
_TRAVEL_SHARE, _MAX_TRAVEL_S = 0.02, 0.2
_FUSED_SHARE = 0.98  # of the time that is left once the picture is decoded; the rest is for writing the answer


class Gateway:
    """Decodes, asks the fusion, writes the answer.

    put: stores a frame where other processes reach it and returns a reference (`ray.put`)
    """

    def __init__(
        self,
        fusion: FusionCall,
        *,
        put: Callable[[Any], Any],
        categories: Categories,
        limits: Limits,
        model_version: str,
    ) -> None:
        self._fusion = fusion
        self._put = put
        self._categories = categories
        self._limits = limits
        self._model_version = model_version
        self._in_flight = 0
        self._draining = False

    @property
    def limits(self) -> Limits:
        """What this gateway accepts."""
        return self._limits

    @property
    def draining(self) -> bool:
        """Whether it takes no more requests because the service stops."""
        return self._draining

    async def drain(self, within_s: float) -> bool:
        """Refuse new requests from now on; whether those in flight were answered within `within_s` seconds."""
        self._draining = True
        deadline = Deadline(within_s)
        while self._in_flight and not deadline.passed:
            await asyncio.sleep(0.05)
        return not self._in_flight

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a place for one request. Raises a 503 problem where all places are taken or the service stops."""
        if self._draining:
            raise ProblemError(503, STOPPING, headers=_RECOVERY)
        if self._in_flight >= self._limits.max_queued_requests:
            raise ProblemError(503, f"{self._in_flight} requests are waiting already", headers=RETRY_AFTER)
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def deadline(self, query: SegmentQuery) -> Deadline:
        """When the answer has to be there. Raises a 422 problem for more time than the service grants."""
        asked = query.deadline_s if query.deadline_s is not None else self._limits.deadline_s
        if asked > self._limits.max_deadline_s:
            raise ProblemError(
                422,
                "the deadline is too far away",
                field="deadline_s",
                expected=f"at most {self._limits.max_deadline_s:g}",
                got=f"{asked:g}",
            )
        return Deadline(asked - min(_TRAVEL_SHARE * asked, _MAX_TRAVEL_S))

    async def segment(self, image: bytes, query: SegmentQuery, deadline: Deadline, *, whole: bool = False) -> bytes:
        """The JSON answer for the bytes of an image, with `whole` only one of all views.

        Raises a `ProblemError`: 400, 413, 503 or 504.
        """
        try:
            async with asyncio.timeout(deadline.remaining_s) as limit:
                return await self._segment(image, query, deadline, whole)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ProblemError(504, "the deadline passed while the image was decoded or the answer written") from None

    async def _segment(self, image: bytes, query: SegmentQuery, deadline: Deadline, whole: bool) -> bytes:
        start = time.perf_counter()
        frame, image_hw, sha256 = await asyncio.to_thread(self._decode, image)
        decoded = time.perf_counter()
        fused = await self._ask(frame, image_hw, query, deadline)
        if fused.instances is None or (whole and fused.degraded):
            raise _missing_views(fused)
        del frame  # the object store may drop the pixels while the answer is written
        asked = time.perf_counter()
        instances = await asyncio.to_thread(self._write, fused, image_hw, query)
        written = time.perf_counter()
        content = {
            "image": {"width": image_hw[1], "height": image_hw[0], "sha256": sha256},
            "instances": instances,
            "views": answer.write_views(fused.reports, self._categories),
            "degraded": fused.degraded,
            "timings": {
                "decode_s": decoded - start,
                "views_s": fused.views_s,
                "masks_s": fused.masks_s,
                "fusion_s": fused.fusion_s,
                "encode_s": written - asked,
                "total_s": written - start,
            },
            "model_version": self._model_version,
        }
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

    def _decode(self, image: bytes) -> tuple[Any, SizeHW, str]:
        try:
            pixels: NDArray[np.uint8] = decode_image(image, max_pixels=self._limits.max_pixels)
        except PixelLimitError as error:
            raise _image_problem(413, error) from None
        except InputError as error:
            raise _image_problem(400, error) from None
        height, width = pixels.shape[:2]
        return self._put(pixels), (height, width), hashlib.sha256(image).hexdigest()

    async def _ask(self, frame: Any, image_hw: SizeHW, query: SegmentQuery, deadline: Deadline) -> FusedAnswer:
        try:
            return await self._fusion(
                frame,
                image_hw=image_hw,
                deadline_s=_FUSED_SHARE * deadline.remaining_s,
                explain="boxes" if query.explain else "none",
            )
        except OverloadError as error:
            logger.warning("overload: %s", error)
            raise ProblemError(503, "too many requests are waiting already", headers=RETRY_AFTER) from None
        except (UnavailableError, DeadlineError) as error:  # late although its views are not: it is dead or stuck
            logger.warning("fusion: %s", error)
            raise ProblemError(503, "the fusion did not answer in time", headers=_RECOVERY) from None

    def _write(self, fused: FusedAnswer, image_hw: SizeHW, query: SegmentQuery) -> list[dict[str, Any]]:
        assert fused.instances is not None
        return answer.write_instances(
            answer.chosen(fused.instances, query),
            categories=self._categories,
            image_hw=image_hw,
            masks=query.masks,
        )


def model_version(checkpoints: dict[str, Path]) -> str:
    """Twelve hexadecimal digits that change with any member's name, weights, recipe, classes or training sizes."""
    digest = hashlib.sha256()
    for name, folder in sorted(checkpoints.items()):
        sizes = [TRAINING_SIZES] if (folder / TRAINING_SIZES).exists() else []
        for file in ("model.safetensors", "recipe.yaml", "categories.json", *sizes):
            with (folder / file).open("rb") as stream:
                digest.update(f"{name}/{file}".encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def version_of(ensemble: Ensemble) -> str:
    """The model version of an ensemble's checkpoints as they are now."""
    return model_version({name: member.checkpoint for name, member in ensemble.members.items()})


def _missing_views(fused: FusedAnswer) -> ProblemError:
    missing = [f"{report.view.name} ({report.status})" for report in fused.reports if report.status != "ok"]
    detail = f"{len(missing)} of {len(fused.reports)} views did not answer: {', '.join(missing)}"
    return ProblemError(503, detail, headers=_RECOVERY)


def _image_problem(status: int, error: InputError) -> ProblemError:
    text = str(error).removeprefix("image: ")
    expected, _, got = text.removeprefix("expected ").partition("; got ")
    if not got:
        return ProblemError(status, f"the image cannot be used: {text}", field="image")
    return ProblemError(status, f"the image cannot be used: {text}", field="image", expected=expected, got=got)
