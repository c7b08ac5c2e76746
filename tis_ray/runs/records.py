"""What a batch run notes of one image."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

from tis_ray.instances import Instances
from tis_ray.views import View

Status = Literal["ok", "degraded", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class ViewOutcome:
    """How one view of an image fared: its name, what the service says of it, seconds, and how much it found."""

    view: str
    status: str
    seconds: float
    num_instances: int


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """One image of a batch run.

    size_hw:    height and width in px; (0, 0) where the image could not be opened
    status:     `ok`; `degraded` where views are missing; `failed` where nothing was found out, which `error` explains
    instances:  what the ensemble found, in the image frame; its masks, where it has any, are exact once they were read
                from a shard
    outcomes:   of each view, in the ensemble's order; empty where nobody told
    file_bytes: how long the image's file was, None where that is unknown
    model_version: of the members that answered
    """

    image_id: int
    file_name: str
    size_hw: tuple[int, int]
    status: Status
    instances: Instances
    error: str = ""
    outcomes: tuple[ViewOutcome, ...] = ()
    file_bytes: int | None = None
    model_version: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the views that did not answer."""
        return tuple(one.view for one in self.outcomes if one.status != "ok")


@dataclass(frozen=True, slots=True)
class ImageViews:
    """What each view found by itself in one image, in the image frame, as it came from the detectors."""

    image_id: int
    size_hw: tuple[int, int]
    found: Mapping[View, Instances] = field(default_factory=dict)

    def only_of(self, outcome: ImageOutcome) -> Self:
        """Of the views alone that answered when the image's outcome was noted; of none where it failed."""
        if outcome.status == "failed":
            return replace(self, found={})
        missing = outcome.missing
        return replace(self, found={view: one for view, one in self.found.items() if view.name not in missing})
