"""Class-aware sampling of MegDetV2 (COCO 2019): a bound of IoU for each class, so that none goes without positives.

How many proposals overlap an object well differs from class to class: large things have dozens, tiny ones hardly any.
From alpha, the number of proposals of IoU 0.5 or more per object over all classes, each class gets its quota of
positives, those of its proposals that overlap most. The paper gives one sentence to it; two readings are here:

quota: alpha = good proposals / objects; a class of n objects takes round(alpha * n) of its proposals
share: alpha = good proposals / proposals that overlap an object at all; a class takes round(alpha * n) of its n such

Halves are rounded to the even number. Both give out as many positives in all as one bound for all classes would. A
proposal is of the class of the object that it overlaps most. Objects' own boxes count neither for alpha nor against a
quota: they are positive in any case.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from tis_ray.config.section import Fraction
from tis_ray.models.roi_sampling import Candidates, RoiSampler, Sample
from tis_ray.models.roi_sampling._fill import fill, overlapping
from tis_ray.models.roi_sampling._ranks import occurrences, rank_within
from tis_ray.models.roi_sampling._shortlist import own_boxes, shortlist

Alpha = Literal["quota", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAware:
    """The options of `build`."""

    alpha: Alpha
    alpha_iou: float | None
    min_iou: float
    by_score: int | None
    by_iou: int
    negative_below: float | None

    def __call__(self, candidates: Candidates, *, size: int, max_positives: int, positive_iou: float) -> Sample:
        """Positives are each class's quota of the proposals of largest overlap; chance decides which of them."""
        listed = shortlist(candidates, by_score=self.by_score, by_iou=self.by_iou)
        own = own_boxes(candidates)
        proposals = listed & ~own
        classes = torch.where(proposals & (candidates.overlaps > 0), candidates.labels, 0)
        good = proposals & overlapping(candidates, positive_iou if self.alpha_iou is None else self.alpha_iou)
        within_quota = rank_within(classes, candidates.overlaps) < self._quota(candidates, classes, good)
        positive = (own | (within_quota & (classes > 0))) & overlapping(candidates, self.min_iou)
        return fill(
            candidates,
            positive,
            size=size,
            max_positives=max_positives,
            negatives_among=listed,
            negative_below=self.negative_below,
        )

    def _quota(self, candidates: Candidates, classes: Tensor, good: Tensor) -> Tensor:
        """Float64 (N,): how many positives the class of each proposal may have."""
        if self.alpha == "quota":
            parts, whole = candidates.object_labels, max(len(candidates.object_labels), 1)
        else:
            parts, whole = classes, (classes > 0).sum().clamp(min=1)
        # Multiplied before it is divided: a half stays exactly one.
        return ((good.sum() * occurrences(classes, parts)).double() / whole).round()


def build(
    *,
    alpha: Alpha = "quota",
    alpha_iou: Fraction | None = 0.5,
    min_iou: Fraction = 0.3,
    by_score: PositiveInt | None = None,
    by_iou: PositiveInt = 1000,
    negative_below: Fraction | None = None,
) -> RoiSampler:
    """Positives by class, in numbers that follow from `alpha`, counted at IoU `alpha_iou` (null: `box.positive_iou`).

    None overlaps its object by less than `min_iou`. With `by_score`, candidates are only the `by_score` best
    proposals and the `by_iou` of largest overlap, as in `high_iou`. Negatives are drawn from all others, or only from
    those whose overlap is below `negative_below`.
    """
    return ClassAware(
        alpha=alpha,
        alpha_iou=alpha_iou,
        min_iou=min_iou,
        by_score=by_score,
        by_iou=by_iou,
        negative_below=negative_below,
    )
