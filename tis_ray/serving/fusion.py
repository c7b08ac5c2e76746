"""The fusion's side of a request: ask every view server at once, wait for all within the deadline, fuse.

Views that fail or are late are named in the reports. The ensemble's quorum says how many must have answered for what
is left to be fused. Nothing takes the place of a missing view: every other keeps speaking for its own valid range,
so the objects that only the missing one may speak for are missing too. Too much work is no reason to leave a view
out: where a queue is full, nothing is fused.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tis_ray.config import Ensemble, dump, parse
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.serving.calls import ViewCall
from tis_ray.serving.messages import (
    Deadline,
    DeadlineError,
    Explain,
    FusedAnswer,
    OverloadError,
    Status,
    UnavailableError,
    ViewAnswer,
    ViewReport,
)
from tis_ray.views import SizeHW, View

logger = logging.getLogger("ray.serve")


class Fusion:
    """Fans an image out to `servers`, by deployment name, and fuses what comes back."""

    def __init__(
        self,
        ensemble: Ensemble,
        servers: Mapping[str, ViewCall],
        categories: Categories | None = None,
        sizes: Mapping[str, TrainingSizes] | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._servers = dict(servers)
        self._sources = ensemble.views
        self._views = ensemble.deployments
        self._categories = categories
        self._sizes = sizes or {}
        self._fuser = Fuser.of(ensemble, categories, sizes=self._sizes)

    def reconfigure(self, section: dict[str, Any]) -> None:
        """Take another fusion section while running. Raises `ConfigError` and keeps the old one if it is wrong."""
        content = dump(self._ensemble) | {"fusion": section}
        ensemble = parse(Ensemble, content, source="user_config")
        self._fuser = Fuser.of(ensemble, self._categories, sizes=self._sizes)
        self._ensemble = ensemble

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble as it runs, with the fusion section in force."""
        return self._ensemble

    async def segment(self, frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        """The fused answer for `frame`, a reference to a uint8 array (H, W, 3) of size `image_hw`.

        The views have `deadline_s` seconds; fusing what came by then is added. Raises `OverloadError` where a view
        server's queue is full, and nothing for any other failure of a view.
        """
        fuser = self._fuser  # one section for the whole request
        start = time.perf_counter()
        deadline = Deadline(deadline_s)
        outcomes = await _together(self._ask(name, frame, deadline) for name in self._servers)
        views_s = time.perf_counter() - start
        reports = {report.view: report for outcome in outcomes for report in outcome}
        ordered = tuple(reports[view] for view in self._sources)
        answered = sum(report.status == "ok" for report in ordered)
        if not self._ensemble.quorum.met(answered, len(ordered)):
            return FusedAnswer(None, ordered, views_s, 0.0)
        found = {report.view: report.found for report in ordered if report.found is not None}
        start = time.perf_counter()
        fused = await asyncio.to_thread(fuser.fuse, found, image_hw=image_hw, sources=self._sources)
        return FusedAnswer(fused, _kept(ordered, explain), views_s, time.perf_counter() - start)

    async def _ask(self, name: str, frame: Any, deadline: Deadline) -> list[ViewReport]:
        views = self._views[name]
        start = time.perf_counter()
        try:
            answer = await self._servers[name](frame, deadline_s=deadline.remaining_s)
        except OverloadError:
            raise
        except Exception as error:  # whatever a replica died of, the request gets an answer
            status: Status = "timeout" if _is_late(error) else "error"
            own = status == "error" and not isinstance(error, UnavailableError)
            logger.warning("view server %s: %s: %s", name, status, error, exc_info=own)
            return [ViewReport(view, status, time.perf_counter() - start) for view in views]
        return _reports(views, answer)


async def _together(asked: Iterable[Coroutine[Any, Any, list[ViewReport]]]) -> list[list[ViewReport]]:
    """All answers, or the first failure, which ends the other calls."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    except OverloadError:
        for task in tasks:
            task.cancel()
        raise


def _is_late(error: Exception) -> bool:
    """A deadline can pass here or in the replica; the latter's error arrives with Ray's own type mixed in."""
    return isinstance(error, DeadlineError) or isinstance(getattr(error, "cause", None), DeadlineError)


def _reports(views: Sequence[View], answer: ViewAnswer) -> list[ViewReport]:
    return [
        ViewReport(view, "ok", answer.seconds, len(found), found)
        for view, found in zip(views, answer.instances, strict=True)
    ]


def _kept(reports: tuple[ViewReport, ...], explain: Explain) -> tuple[ViewReport, ...]:
    """The reports as they travel on: of a view's own instances only what was asked for."""
    if explain == "masks":
        return reports
    if explain == "none":
        return tuple(replace(report, found=None) for report in reports)
    return tuple(replace(report, found=_boxes(report)) for report in reports)


def _boxes(report: ViewReport) -> Instances | None:
    return None if report.found is None else report.found.without_masks()
