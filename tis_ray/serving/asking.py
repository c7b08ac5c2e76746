"""One request's questions to the view servers, in two passes: every failure becomes the report of a view.

Too much work is no such failure: where a queue is full, the whole request is refused.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.calls import ViewCalls
from tis_ray.serving.messages import (
    Deadline,
    DeadlineError,
    Kept,
    MasksAnswer,
    OverloadError,
    Status,
    UnavailableError,
    ViewAnswer,
    ViewReport,
)
from tis_ray.views import View

logger = logging.getLogger("ray.serve")

_Answer = TypeVar("_Answer", ViewAnswer, MasksAnswer)


class Asking:
    """Asks `servers`, by deployment name, about `frame`, each for what `plans` say of it.

    views:   those of each server
    reports: how each view has fared so far; a view that failed in either pass has failed
    """

    def __init__(
        self,
        servers: Mapping[str, ViewCalls],
        views: Mapping[str, Sequence[View]],
        plans: Mapping[str, Plan],
        frame: Any,
    ) -> None:
        self._servers = servers
        self._views = views
        self._plans = plans
        self._frame = frame
        self._key = uuid4().hex
        self._kept: dict[str, Kept] = {}
        self.reports: dict[View, ViewReport] = {}

    async def first(self, deadline: Deadline) -> dict[View, Instances]:
        """What the views find by themselves, of those that are asked for boxes and answered in time."""
        return _joined(await _together(self._look(name, deadline) for name in self._servers))

    async def second(self, instances: Instances, deadline: Deadline) -> dict[View, BoxMasks]:
        """What views predict for the boxes of `instances`, of those that are asked for it and answered both times."""
        if len(instances) == 0:
            return {}
        return _joined(await _together(self._segment(name, instances, deadline) for name in self._kept))

    async def _look(self, name: str, deadline: Deadline) -> dict[View, Instances]:
        views, plan = self._views[name], self._plans[name]
        call = self._servers[name].segment(self._frame, plan=plan, key=self._key, deadline_s=deadline.remaining_s)
        answer = await self._answer(name, call)
        if answer is None:
            return {}
        if answer.kept is not None:
            self._kept[name] = answer.kept
        if not plan.boxes:
            self.reports |= {view: ViewReport(view, "ok", answer.seconds) for view in views}
            return {}
        for view, found in zip(views, answer.instances, strict=True):
            self.reports[view] = ViewReport(view, "ok", answer.seconds, len(found), found)
        # Masks of its own that came all the same are for whoever wants an explanation.
        return {
            view: found.without_masks() if plan.masks else found
            for view, found in zip(views, answer.instances, strict=True)
        }

    async def _segment(self, name: str, instances: Instances, deadline: Deadline) -> dict[View, BoxMasks]:
        views = self._views[name]
        call = self._servers[name].masks(
            self._frame,
            instances.boxes,
            instances.labels,
            kept=self._kept[name],
            deadline_s=deadline.remaining_s,
        )
        answer = await self._answer(name, call)
        if answer is None:
            return {}
        for view, masks in zip(views, answer.masks, strict=True):
            report = replace(self.reports[view], seconds=self.reports[view].seconds + answer.seconds)
            if not self._plans[name].boxes:
                given = replace(instances, masks=masks)[masks.present]
                report = replace(report, num_instances=len(given), found=given)
            self.reports[view] = report
        return dict(zip(views, answer.masks, strict=True))

    async def _answer(self, name: str, call: Awaitable[_Answer]) -> _Answer | None:
        """The answer of a call, or None and the reports that say why there is none."""
        start = time.perf_counter()
        try:
            answer: _Answer = await call
        except OverloadError:
            raise
        except Exception as error:  # whatever a replica died of, the request gets an answer
            status: Status = "timeout" if _is_late(error) else "error"
            own = status == "error" and not isinstance(error, UnavailableError)
            logger.warning("view server %s: %s: %s", name, status, str(error), exc_info=own)
            for view in self._views[name]:
                before = self.reports.get(view)
                waited_s = time.perf_counter() - start + (before.seconds if before else 0.0)
                self.reports[view] = ViewReport(view, status, waited_s)
            return None
        return answer


_Result = TypeVar("_Result")


def _joined(parts: Sequence[dict[View, _Result]]) -> dict[View, _Result]:
    return {view: one for part in parts for view, one in part.items()}


async def _together(asked: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """All answers, or the first failure, which ends the other calls."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    except Exception:
        _cancel(tasks)
        raise
    finally:
        del tasks  # they keep the failure, whose traceback keeps this frame and the picture in it


def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()


def _is_late(error: Exception) -> bool:
    """A deadline can pass here or in the replica; the latter's error arrives with Ray's own type mixed in."""
    return isinstance(error, DeadlineError) or isinstance(getattr(error, "cause", None), DeadlineError)
