"""High-IoU sampling of MegDetV2 (COCO 2019): proposals are chosen for their overlap with objects, not for their score.

A head trained on positives of IoU 0.7 needs many of them, and few of the best-scored proposals are that good. So the
candidates are the best by score and the best by overlap together, the positives those of the largest overlap, and no
object may take more than its part while others wait. It wants proposals to choose from: an `rpn.nms_iou_train` of 0.9
or so, and an `rpn.post_nms_top_n_train` well above `by_score`; and `box.positive_iou` 0.7. Testing stays as it is.
"""

from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor

from tis_ray.config.section import Fraction
from tis_ray.models.roi_sampling import Candidates, RoiSampler, Sample
from tis_ray.models.roi_sampling._fill import fill, overlapping
from tis_ray.models.roi_sampling._ranks import ordered, rank_within
from tis_ray.models.roi_sampling._shortlist import shortlist


@dataclass(frozen=True, slots=True, kw_only=True)
class HighIou:
    """The options of `build`."""

    by_score: int | None
    by_iou: int
    negative_below: float | None

    def __call__(self, candidates: Candidates, *, size: int, max_positives: int, positive_iou: float) -> Sample:
        """Positives overlap an object by at least `positive_iou`; those that overlap most are taken."""
        listed = shortlist(candidates, by_score=self.by_score, by_iou=self.by_iou)
        positive = listed & overlapping(candidates, positive_iou)
        cap = -(-max_positives // max(len(candidates.object_labels), 1))
        return fill(
            candidates,
            positive,
            size=size,
            max_positives=max_positives,
            negatives_among=listed,
            negative_below=self.negative_below,
            priority=_priority(candidates, positive, cap),
        )


def _priority(candidates: Candidates, positive: Tensor, cap: int) -> Tensor:
    """Float (N,), no two alike: the `cap` best of each object above all others, and of two the one of more overlap."""
    objects = torch.where(positive, candidates.matched, -1)
    beyond = rank_within(objects, candidates.overlaps) >= cap
    order = ordered(beyond.long(), candidates.overlaps)
    descending = torch.arange(len(order), 0, -1, device=order.device)
    return torch.zeros_like(order).scatter(0, order, descending).float()


def build(
    *, by_score: PositiveInt | None = 1000, by_iou: PositiveInt = 1000, negative_below: Fraction | None = None
) -> RoiSampler:
    """The positives of largest overlap, at first no more than ceil(positives / objects) of one object.

    Candidates are the `by_score` best proposals (null: all), the `by_iou` of largest overlap and the objects' own
    boxes. Negatives are drawn from those that are not positive, or only from those whose overlap is below
    `negative_below`.
    """
    return HighIou(by_score=by_score, by_iou=by_iou, negative_below=negative_below)
