"""The fusion's side of a request: ask every view server at once, wait for all within the deadline, merge what they
found, ask for the masks of that those who are to predict them, choose among the masks.

Views that fail or are late are named in the reports. The ensemble's quorum says how many must have answered, each with
all that it was asked for, for what is left to be fused. Nothing takes the place of a missing view: every other keeps
speaking for its own valid range, so the objects that only the missing one may speak for are missing too, and where all
who predict masks are missing no instance has one. Too much work is no reason to leave a view out: where a queue is
full, nothing is fused.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tis_ray.config import Ensemble, dump, parse
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Categories
from tis_ray.serving.asking import Asking
from tis_ray.serving.calls import ViewCalls
from tis_ray.serving.messages import Deadline, Explain, FusedAnswer, ViewReport
from tis_ray.serving.metrics import FusionMetrics
from tis_ray.serving.rehearsal import rehearse_fusion
from tis_ray.views import SizeHW

# Of the views' time, what the first pass may take where a second follows: one late detector shall not cost all masks.
_FIRST_SHARE = 0.7


class Fusion:
    """Fans an image out to `servers`, by deployment name, and fuses what comes back.

    `maskless` names the members that predict no masks.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        servers: Mapping[str, ViewCalls],
        categories: Categories | None = None,
        sizes: Mapping[str, TrainingSizes] | None = None,
        maskless: Collection[str] = (),
        metrics: FusionMetrics | None = None,
    ) -> None:
        self._metrics = FusionMetrics() if metrics is None else metrics
        self._servers = dict(servers)
        self._sources = ensemble.views
        self._views = ensemble.deployments
        self._categories = categories
        self._sizes = sizes or {}
        self._maskless = maskless
        self._take(ensemble)

    def reconfigure(self, section: dict[str, Any]) -> None:
        """Take another fusion section while running. Raises `ConfigError` and keeps the old one if it is wrong."""
        content = dump(self._ensemble) | {"fusion": section}
        self._take(parse(Ensemble, content, source="user_config"))

    def rehearse(self) -> None:
        """Fuse made-up objects, so that the first picture need not wait for kernels."""
        rehearse_fusion(self._fuser, self._sources)

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble as it runs, with the fusion section in force."""
        return self._ensemble

    async def segment(self, frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        """The fused answer for `frame`, a reference to a uint8 array (H, W, 3) of size `image_hw`.

        The views have `deadline_s` seconds for both passes; fusing what came by then is added. Raises `OverloadError`
        where a view server's queue is full, and nothing for any other failure of a view.
        """
        fused = await self._segment(frame, image_hw, deadline_s, explain)
        self._metrics.reported(fused.reports)
        return fused

    async def _segment(self, frame: Any, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        fuser = self._fuser  # one section for the whole request
        plans = {name: _plan(fuser.plan(views[0]), explain) for name, views in self._views.items()}
        asking = Asking(self._servers, self._views, plans, frame)
        deadline, lap = Deadline(deadline_s), _Laps()
        two_passes = any(plan.masks for plan in plans.values())
        found = await asking.first(Deadline(_FIRST_SHARE * deadline_s) if two_passes else deadline)
        views_s = lap()
        if not found or not self._enough(asking.reports.values()):
            return FusedAnswer(None, self._ordered(asking, "none"), views_s, 0.0)
        merged = await asyncio.to_thread(fuser.merge, found, image_hw=image_hw, sources=self._sources)
        fusion_s = lap()
        masks = await asking.second(merged.instances, deadline)
        masks_s = lap()
        if not self._enough(asking.reports.values()):
            return FusedAnswer(None, self._ordered(asking, "none"), views_s, fusion_s, masks_s)
        fused = await asyncio.to_thread(fuser.finish, merged, masks)
        return FusedAnswer(fused, self._ordered(asking, explain), views_s, fusion_s + lap(), masks_s)

    def _take(self, ensemble: Ensemble) -> None:
        self._fuser = Fuser.of(ensemble, self._categories, sizes=self._sizes, maskless=self._maskless)
        self._ensemble = ensemble

    def _enough(self, reports: Iterable[ViewReport]) -> bool:
        answered = sum(report.status == "ok" for report in reports)
        return self._ensemble.quorum.met(answered, len(self._sources))

    def _ordered(self, asking: Asking, explain: Explain) -> tuple[ViewReport, ...]:
        """The reports as they travel on: of a view's own instances only what was asked for."""
        return tuple(_explained(asking.reports[view], explain) for view in self._sources)


class _Laps:
    """Each call gives the seconds since the last one."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def _plan(plan: Plan, explain: Explain) -> Plan:
    """What a view is asked for: whoever wants to know its own masks gets them though the fusion needs none."""
    return plan._replace(own_masks=plan.boxes and plan.masks) if explain == "masks" and plan.masks else plan


def _explained(report: ViewReport, explain: Explain) -> ViewReport:
    if explain == "masks" or report.found is None:
        return report
    return replace(report, found=report.found.without_masks() if explain == "boxes" else None)
