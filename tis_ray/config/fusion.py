"""The fusion section: how the views of an ensemble become one answer."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tis_ray.config.section import Choice, Part, Section


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
