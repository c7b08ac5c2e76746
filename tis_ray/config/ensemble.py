"""The ensemble: members and their views, fusion, limits, and what each deployment of the service gets."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tis_ray.config.section import Choice, Part, Section
from tis_ray.views import View


def _check_scales(scales: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(scales)) != len(scales) or min(scales, default=1) < 1:
        raise ValueError("expected different shorter edges of at least 1 px")
    return scales


class Member(Section):
    """One trained model and the views it is asked for: every scale, each also mirrored where `flip`."""

    checkpoint: Path
    scales: Annotated[tuple[int, ...], AfterValidator(_check_scales)] = Field(min_length=1)
    max_long_edge: int | None = None
    flip: bool = True


def _check_range(interval: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= interval[0] < interval[1]:
        raise ValueError("expected 0 <= low < high")
    return interval


Range = Annotated[tuple[float, float], AfterValidator(_check_range)]  # [low, high) of sqrt(box area) in px


class FusionSection(Section):
    """How views become one answer. It may change while the service runs.

    `ranges` maps `member@scale`, or `@scale` for all members, to the sqrt(box area) interval in image pixels
    [low, high) that this scale may speak for; the others speak for every size. `rules` run in the order given.
    """

    ranges: dict[str, Range] = Field(default_factory=dict)
    rules: tuple[Part, ...] = (Choice(name="nms", options={"iou_threshold": 0.5}),)
    masks: Part = Choice(name="best")
    top_k: int = Field(default=100, ge=1)
    score_threshold: float = Field(default=0.0, ge=0, le=1)


class Limits(Section):
    """What the service accepts, checked before a picture is decoded, and how long an answer may take.

    Up to `max_queued_requests` decoded pictures are held at once, 3 bytes a pixel: with the defaults 19 GB at worst.
    """

    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=100_000_000, ge=1)
    deadline_s: float = Field(default=60.0, gt=0)
    max_deadline_s: float = Field(default=300.0, gt=0)
    max_queued_requests: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _check_deadlines(self) -> Self:
        if self.deadline_s > self.max_deadline_s:
            raise ValueError(f"deadline_s: expected at most max_deadline_s, {self.max_deadline_s:g}")
        return self


class Autoscaling(Section):
    """Ray Serve's autoscaling of one deployment; delays are seconds."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=2, gt=0)
    upscale_delay_s: float = 30
    downscale_delay_s: float = 600

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas: expected at most max_replicas, {self.max_replicas}")
        return self


def _check_gpus(num_gpus: float | str) -> float | str:
    if not isinstance(num_gpus, str) and not (0 <= num_gpus <= 1 or (num_gpus > 1 and num_gpus.is_integer())):
        raise ValueError("expected auto, a share in 0..1 or a whole number of GPUs")
    return num_gpus


class Replica(Section):
    """Resources and number of replicas of one deployment: `num_replicas`, or `autoscaling` in its place."""

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=1, ge=0)
    num_gpus: Annotated[float | Literal["auto"], AfterValidator(_check_gpus)] = "auto"
    autoscaling: Autoscaling | None = None

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.autoscaling is not None and self.num_replicas != 1:
            raise ValueError("num_replicas: expected none beside autoscaling, which has min_replicas and max_replicas")
        return self


class Ensemble(Section):
    """Members, their views, the fusion of those, and what each deployment of the service gets.

    `replicas` is keyed by deployment name (`gateway`, `fusion`, `member@scale`); `default` serves the view
    servers that are not named.
    """

    members: dict[str, Member] = Field(min_length=1)
    fusion: FusionSection = FusionSection()
    limits: Limits = Limits()
    replicas: dict[str, Replica] = Field(default_factory=dict)
    auth: Literal["none"] | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.members:
            if not name or not set(name) <= _NAME_CHARACTERS:
                raise ValueError(f"members.{name}: expected a name of letters, digits, '_', '-' and '.'")
        deployments = {view.deployment for view in self.views}
        scales = {f"@{view.scale}" for view in self.views}
        for key in self.fusion.ranges:
            if key not in deployments | scales:
                raise ValueError(f"fusion.ranges.{key}: expected one of {', '.join(sorted(deployments | scales))}")
        known = {"default", "gateway", "fusion"} | deployments
        for key in self.replicas:
            if key not in known:
                raise ValueError(f"replicas.{key}: expected one of {', '.join(sorted(known))}")
        return self

    @property
    def views(self) -> tuple[View, ...]:
        """Every view of every member, sorted: the order in which fusion numbers its sources."""
        return tuple(
            sorted(
                View(name, scale, flip, (), member.max_long_edge)
                for name, member in self.members.items()
                for scale in member.scales
                for flip in ((False, True) if member.flip else (False,))
            )
        )

    def replica(self, deployment: str) -> Replica:
        """Resources of a view server: its own entry, else `default`."""
        return self.replicas.get(deployment, self.replicas.get("default", Replica()))


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
