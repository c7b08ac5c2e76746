"""The gateway's side of a request: image bytes in, the JSON answer out. HTTP itself is in `routes`."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from tis_ray.config import Limits
from tis_ray.instances import Categories
from tis_ray.serving import answer
from tis_ray.serving.admission import TIME_SHARE, LateError, Pace
from tis_ray.serving.calls import FusionCall
from tis_ray.serving.decoding import Decoder, Frame
from tis_ray.serving.messages import Deadline, DeadlineError, FusedAnswer, OverloadError, UnavailableError
from tis_ray.serving.metrics import GatewayMetrics
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.schemas import SegmentQuery
from tis_ray.serving.time_limit import TimeIsUpError, in_time
from tis_ray.views import SizeHW

logger = logging.getLogger("ray.serve")

RETRY_AFTER = {"Retry-After": "1"}
STOPPING = "the service is shutting down"
_RECOVERY = {"Retry-After": "5"}  # a replica that died needs some seconds to be replaced
# An answer needs a moment to travel: the work ends that much before the client's deadline.
_TRAVEL_SHARE, _MAX_TRAVEL_S = 0.02, 0.2
_FUSED_SHARE = 0.98  # of the time that is left once the picture is decoded; the rest is for writing the answer


class Gateway:
    """Decodes, asks the fusion, writes the answer, and refuses what would have to wait for too long.

    put:     stores a frame where other processes reach it and returns a reference (`ray.put`)
    pace:    how long requests take, which it learns here
    metrics: told of every request but the warm-up's
    """

    def __init__(
        self,
        fusion: FusionCall,
        *,
        put: Callable[[Any], Any],
        categories: Categories,
        limits: Limits,
        model_version: str,
        pace: Pace | None = None,
        metrics: GatewayMetrics | None = None,
    ) -> None:
        self._fusion = fusion
        self._decoder = Decoder(put, max_pixels=limits.max_pixels, max_decoded_pixels=limits.max_decoded_pixels)
        self._categories = categories
        self._limits = limits
        self._model_version = model_version
        self._pace = Pace() if pace is None else pace
        self._in_flight = 0
        self._draining = False
        self.metrics = GatewayMetrics() if metrics is None else metrics

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
    def admitted(self, deadline: Deadline) -> Iterator[None]:
        """Hold a place for one request, before its body is read.

        Raises a 503 problem where all places are taken, the service stops, or the time will not be enough.
        """
        if self._draining:
            self.metrics.refused("stopping")
            raise ProblemError(503, STOPPING, headers=_RECOVERY)
        if self._in_flight >= self._limits.max_queued_requests:
            self.metrics.refused("full")
            raise ProblemError(
                503, f"{self._in_flight} requests are waiting already", headers=self._come_back(deadline)
            )
        self._check_in_time(deadline)
        self._hold(1)
        try:
            yield
        finally:
            self._hold(-1)

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

    async def segment(self, image: bytes, query: SegmentQuery, deadline: Deadline) -> bytes:
        """The JSON answer for the bytes of an image. Raises a `ProblemError`: 400, 413, 503 or 504."""
        self._check_in_time(deadline)  # many may have come while its body did
        entered = self._pace.enter()
        answered = late = False
        try:
            content = await self._within(deadline, image, query)
            answered = True
        except LateError:
            late = True
            raise
        finally:
            self._pace.leave(entered, answered=answered, late=late)
        self.metrics.answered(content["timings"], degraded=content["degraded"])
        self.metrics.found(row["category"] for row in content["instances"])
        return _dumped(content)

    async def warm_up(self, image: bytes) -> bytes:
        """The answer for a picture with the default parameters, and only one of all views: whether all is there.

        Neither metrics nor the pace of requests know of it. Raises what `segment` raises.
        """
        query = SegmentQuery.model_validate({})
        return _dumped(await self._within(self.deadline(query), image, query, whole=True))

    def _hold(self, count: int) -> None:
        self._in_flight += count
        self.metrics.in_flight(self._in_flight)

    def _check_in_time(self, deadline: Deadline) -> None:
        if not self._pace.in_time(deadline.remaining_s):
            self.metrics.refused("late")
            detail = f"{self._pace.inside} requests are before this one, which would not be answered in time"
            raise ProblemError(503, detail, headers=self._come_back(deadline))

    def _come_back(self, deadline: Deadline) -> dict[str, str]:
        # By the end of their time all who are here are gone, however long they were expected to take.
        longest_s = math.ceil(max(deadline.remaining_s, self._limits.deadline_s))
        return {"Retry-After": str(min(self._pace.retry_after_s(deadline.remaining_s), longest_s))}

    async def _within(
        self, deadline: Deadline, image: bytes, query: SegmentQuery, *, whole: bool = False
    ) -> dict[str, Any]:
        try:
            return await in_time(self._segment(image, query, deadline, whole), deadline.remaining_s)
        except TimeIsUpError:
            raise LateError(504, "the deadline passed while the image was decoded or the answer written") from None

    async def _segment(self, image: bytes, query: SegmentQuery, deadline: Deadline, whole: bool) -> dict[str, Any]:
        start = time.perf_counter()
        fused, image_hw, sha256, decode_s = await self._look(image, query, deadline)
        if fused.instances is None or (whole and fused.degraded):
            raise _missing_views(fused)
        asked = time.perf_counter()
        instances = await asyncio.to_thread(self._write, fused, image_hw, query)
        written = time.perf_counter()
        return {
            "image": {"width": image_hw[1], "height": image_hw[0], "sha256": sha256},
            "instances": instances,
            "views": answer.write_views(fused.reports, self._categories),
            "degraded": fused.degraded,
            "timings": {
                "decode_s": decode_s,
                "views_s": fused.views_s,
                "masks_s": fused.masks_s,
                "fusion_s": fused.fusion_s,
                "encode_s": written - asked,
                "total_s": written - start,
            },
            "model_version": self._model_version,
        }

    async def _look(
        self, image: bytes, query: SegmentQuery, deadline: Deadline
    ) -> tuple[FusedAnswer, SizeHW, str, float]:
        """The fused answer, the picture's size and SHA-256, and the seconds of decoding. Its pixels are gone then."""
        try:
            async with self._decoder.decoded(image, Deadline(TIME_SHARE * deadline.remaining_s)) as frame:
                return await self._ask(frame, query, deadline), frame.image_hw, frame.sha256, frame.seconds
        except OverloadError as error:
            logger.warning("overload: %s", str(error))
            self.metrics.refused("full")
            detail = "too many requests are waiting already"
            raise LateError(503, detail, headers=self._come_back(deadline)) from None

    async def _ask(self, frame: Frame, query: SegmentQuery, deadline: Deadline) -> FusedAnswer:
        try:
            return await self._fusion(
                frame.pixels,
                image_hw=frame.image_hw,
                deadline_s=_FUSED_SHARE * deadline.remaining_s,
                explain="boxes" if query.explain else "none",
            )
        except OverloadError:
            raise
        except (UnavailableError, DeadlineError) as error:  # late although its views are not: it is dead or stuck
            logger.warning("fusion: %s", str(error))
            kind = LateError if isinstance(error, DeadlineError) else ProblemError
            raise kind(503, "the fusion did not answer in time", headers=_RECOVERY) from None

    def _write(self, fused: FusedAnswer, image_hw: SizeHW, query: SegmentQuery) -> list[dict[str, Any]]:
        assert fused.instances is not None
        return answer.write_instances(
            answer.chosen(fused.instances, query),
            categories=self._categories,
            image_hw=image_hw,
            masks=query.masks,
        )


def _dumped(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _missing_views(fused: FusedAnswer) -> ProblemError:
    missing = [report for report in fused.reports if report.status != "ok"]
    named = ", ".join(f"{report.view.name} ({report.status})" for report in missing)
    kind = LateError if any(report.status == "timeout" for report in missing) else ProblemError
    return kind(503, f"{len(missing)} of {len(fused.reports)} views did not answer: {named}", headers=_RECOVERY)
