"""What the service's processes tell each other: numpy arrays in small frozen records, and how long is left.

No RLE and no JSON here; those appear at the gateway. The image itself travels as an object reference.
"""

import time
from dataclasses import dataclass
from typing import Literal

from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

Status = Literal["ok", "error", "timeout"]
Explain = Literal["none", "boxes", "masks"]  # how much of each view's own instances comes with the answer


@dataclass(frozen=True, slots=True)
class Kept:
    """What a view server keeps of a request's image for the second pass: features under `key`, in the `replica` of
    that name, or in none where there was no room."""

    key: str
    replica: str


@dataclass(frozen=True, slots=True)
class ViewAnswer:
    """One view server's answer to the first pass, and the seconds that all its views took.

    instances: those of each view in order; empty where features alone were asked for
    kept:      what was kept for a second pass, where one is to follow
    """

    instances: tuple[Instances, ...]
    seconds: float
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class MasksAnswer:
    """One view server's answer to the second pass, and the seconds that all its views took.

    masks:    those that each view predicts for the given boxes, in their order
    recalled: whether the features of the first pass were still there
    """

    masks: tuple[BoxMasks, ...]
    seconds: float
    recalled: bool


@dataclass(frozen=True, slots=True)
class ViewReport:
    """How one view fared. `seconds` is the calls it was part of (a deployment's views share them) or the time waited.

    `num_instances` is how many it found by itself or, of a view that gives masks alone, for how many of the fused boxes
    it gave one. `found` holds just these where they were asked for.
    """

    view: View
    status: Status
    seconds: float
    num_instances: int = 0
    found: Instances | None = None


@dataclass(frozen=True, slots=True)
class FusedAnswer:
    """The fused instances in the image frame, or None where too many views are missing; reports in the order of
    sources; the seconds of the first pass, of fusing, and of the second pass, 0 where there was none."""

    instances: Instances | None
    reports: tuple[ViewReport, ...]
    views_s: float
    fusion_s: float
    masks_s: float = 0.0

    @property
    def degraded(self) -> bool:
        """Whether any view is missing."""
        return any(report.status != "ok" for report in self.reports)


class DeadlineError(Exception):
    """The request's time is up."""


class UnavailableError(Exception):
    """A deployment does not serve this request now."""


class LostError(UnavailableError):
    """The replica that had this request died; another may answer it."""


class OverloadError(UnavailableError):
    """A deployment's queue is full."""


class Deadline:
    """A moment on this process's clock. Between processes only the remaining seconds travel: clocks differ."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(self._end - time.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end
