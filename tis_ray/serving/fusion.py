"""The fusion's side of a request: ask every view server at once, wait for all within the deadline, fuse.

For now every view has to answer: an ensemble that silently lost a member would give a worse answer that looks
like any other. A missing view leaves `instances` empty and is named in the reports.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tis_ray.config import Ensemble, dump, parse
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Instances
from tis_ray.serving.calls import ViewCall
from tis_ray.serving.messages import Deadline, DeadlineError, Explain, FusedAnswer, Status, ViewAnswer, ViewReport
from tis_ray.views import SizeHW, View

logger = logging.getLogger("ray.serve")


class Fusion:
    """Fans an image out to `servers`, by deployment name, and fuses what comes back."""

    def __init__(self, ensemble: Ensemble, servers: Mapping[str, ViewCall]) -> None:
        self._ensemble = ensemble
        self._servers = dict(servers)
        self._sources = ensemble.views
        self._views = ensemble.deployments
        self._fuser = Fuser(ensemble.fusion)

    def reconfigure(self, section: dict[str, Any]) -> None:
        """Take another fusion section while running. Raises `ConfigError` and keeps the old one if it is wrong."""
        content = dump(self._ensemble) | {"fusion": section}
        ensemble = parse(Ensemble, content, source="user_config")
        self._fuser = Fuser(ensemble.fusion)
        self._ensemble = ensemble

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble as it runs, with the fusion section in force."""
        return self._ensemble

    async def segment(self, frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        """The fused answer for `frame`, a reference to a uint8 array (H, W, 3) of size `image_hw`.

        Never raises for a view server's failure, and returns within `deadline_s` seconds.
        """
        fuser = self._fuser  # one section for the whole request
        start = time.perf_counter()
        deadline = Deadline(deadline_s)
        outcomes = await asyncio.gather(*(self._ask(name, frame, deadline) for name in self._servers))
        views_s = time.perf_counter() - start
        reports = {report.view: report for outcome in outcomes for report in outcome}
        ordered = tuple(reports[view] for view in self._sources)
        if any(report.status != "ok" for report in ordered):
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
        except Exception as error:  # whatever a replica died of, the request gets an answer
            status: Status = "timeout" if _is_late(error) else "error"
            logger.warning("view server %s: %s: %s", name, status, error, exc_info=status == "error")
            return [ViewReport(view, status, time.perf_counter() - start) for view in views]
        return _reports(views, answer)


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
