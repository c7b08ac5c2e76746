"""The fusion section: how the views of an ensemble become one answer, and the settings of published systems."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from tis_ray.config.section import Choice, Part, Section


def _read_range(interval: Any) -> Any:
    if isinstance(interval, (list, tuple)) and len(interval) == 2 and interval[1] is None:
        return interval[0], float("inf")
    return interval


def _check_range(interval: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= interval[0] < interval[1]:
        raise ValueError("expected 0 <= low < high")
    return interval


def _write_range(interval: tuple[float, float]) -> list[float | None]:
    return [interval[0], None if interval[1] == float("inf") else interval[1]]  # JSON has no infinity


# [low, high) of sqrt(box area) in px; in YAML `[96, null]` has no upper end.
Range = Annotated[
    tuple[float, float], BeforeValidator(_read_range), AfterValidator(_check_range), PlainSerializer(_write_range)
]

Role = Literal["both", "boxes", "masks"]

# What published systems do with their views; `Member.preset` holds the scales that go with it.
PRESETS: dict[str, dict[str, Any]] = {
    "tis": {  # WAD 2018: the masks of all scales and mirror images, averaged on the boxes that were voted
        "rules": ({"nms": {"iou_threshold": 0.5}}, {"vote": {"iou_threshold": 0.9}}),
        "masks": {"average": {"iou_threshold": 0.5}},
        "second_pass": True,
    },
    "lvis": {  # LVIS 2020, which gives the NMS threshold alone; the other numbers are ours
        "rare_boost": {"delta": 0.1, "frequency": ("r",)},
        "ranges": {
            "@400": (96, None),
            "@600": (64, None),
            "@800": (0, None),
            "@1000": (0, 320),
            "@1200": (0, 192),
            "@1400": (0, 128),
        },
        "rules": (
            {"nms": {"iou_threshold": 0.7}},
            {"soft_nms": {"method": "linear", "iou_threshold": 0.5, "min_score": 1e-4}},
        ),
        "masks": {"scale_ratio": {"k": 2}},
        "top_k": 300,
    },
    "megdet": {  # COCO 2019: soft-NMS on the boxes; the masks from the members whose role that is
        "rules": ({"soft_nms": {"method": "linear", "iou_threshold": 0.5, "min_score": 1e-4}},),
        "masks": {"average": {"iou_threshold": 0.5}},
        "second_pass": True,
    },
}


class RareBoost(Section):
    """Classes whose scores are raised by the factor 1 + `delta` before fusion: rare ones lose to common ones else.

    They are those that the class table marks with one of `frequency` (LVIS's r, c, f), those of which the training set
    had at most `max_count` instances, and those named by `classes`. Where none is written, `frequency` is [r].
    """

    delta: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    frequency: tuple[Literal["r", "c", "f"], ...] = ()
    max_count: int | None = Field(default=None, ge=0)
    classes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _fill_frequency(cls, content: Any) -> Any:
        bare = isinstance(content, dict) and not {"frequency", "max_count", "classes"} & content.keys()
        return {**content, "frequency": ("r",)} if bare else content

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if not self.frequency and not self.classes and self.max_count is None:
            raise ValueError("expected max_count, or at least one entry under frequency or classes; got none")
        return self


class FusionMember(Section):
    """What one member's results count in the fusion.

    `weight` multiplies its scores, relative to the largest weight among the members. `role` says what is taken of it:
    its boxes alone, its masks alone, predicted on the fused boxes, or both. `calibration` makes its scores comparable
    with the others', `class_calibration` those of the classes named there.
    """

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    role: Role = "both"
    calibration: Part | None = None
    class_calibration: dict[str, Part] = Field(default_factory=dict)


class AutoRanges(Section):
    """Ranges from the sizes that each member was trained on: a view speaks for those that it shows at such a size.

    Trained on are sqrt(box area) in network pixels between the quantiles `low` and `high` of the training set.
    """

    low: float = Field(default=0.05, ge=0, lt=1)
    high: float = Field(default=0.95, gt=0, le=1)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high; got {self.low} and {self.high}")
        return self


class FusionSection(Section):
    """How views become one answer. It may change while the service runs.

    `members` says what each of them counts, `rare_boost` comes next. `ranges` maps `member@scale`, or `@scale` for all
    members, to the sqrt(box area) interval in image pixels [low, high) that this scale may speak for; the others speak
    for every size, or for those that `auto_ranges` finds, of which `ranges: auto` is the short form. `rules` run in the
    order given. With `second_pass` members whose role is both predict their masks on the fused boxes rather than on
    their own, as those whose role is masks always do. `pasting` is the convention by which patches become pixels.
    `preset` fills what is not written beside it; the name alone stands for the preset as it is.
    """

    preset: Literal["tis", "lvis", "megdet"] | None = None
    members: dict[str, FusionMember] = Field(default_factory=dict)
    rare_boost: RareBoost | None = None
    ranges: dict[str, Range] = Field(default_factory=dict)
    auto_ranges: AutoRanges | None = None
    rules: tuple[Part, ...] = (Choice(name="nms", options={"iou_threshold": 0.5}),)
    masks: Part = Choice(name="best")
    second_pass: bool = False
    pasting: Literal["torchvision", "detectron2"] = "torchvision"
    top_k: int = Field(default=100, ge=1)
    score_threshold: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, content: Any) -> Any:
        if isinstance(content, str):
            content = {"preset": content}
        if not isinstance(content, dict):
            return content
        for name in PRESETS:
            if content.get(name) == {}:  # what `--set fusion.top_k=200` makes of `fusion: tis`
                content = {"preset": name, **{key: value for key, value in content.items() if key != name}}
        if content.get("ranges") == "auto":
            content = {"auto_ranges": {}, **content, "ranges": {}}
        if content.get("auto_ranges") is not None:
            content = {"ranges": {}, **content}  # written beside a preset, they win over its ranges
        name = content.get("preset")
        return {**PRESETS[name], **content} if isinstance(name, str) and name in PRESETS else content

    def role(self, member: str) -> Role:
        """What is taken of a member."""
        return self.members.get(member, FusionMember()).role

    @property
    def insists_on_second_pass(self) -> bool:
        """Whether a second pass was written, rather than brought along by a preset for those who predict masks."""
        return self.second_pass and not (self.preset is not None and PRESETS[self.preset].get("second_pass", False))

    def fitted(self, scales: Collection[int]) -> "FusionSection":
        """With the preset's ranges cut down to those of `scales`, the whole-image scales of an ensemble.

        Where a scale is missing that would have spoken for the largest or smallest sizes, the nearest to it does, so
        that no size goes unheard. Ranges written in the config are left as they are.
        """
        preset = FusionSection(preset=self.preset).ranges if self.preset else {}
        if not preset or self.ranges != preset:
            return self
        ranges = {scale: preset[f"@{scale}"] for scale in sorted(scales) if f"@{scale}" in preset}
        if ranges and len(ranges) == len(set(scales)):
            coarsest, finest = min(ranges), max(ranges)
            ranges[coarsest] = (ranges[coarsest][0], float("inf"))
            ranges[finest] = (0.0, ranges[finest][1])
        return self.model_copy(update={"ranges": {f"@{scale}": interval for scale, interval in ranges.items()}})
