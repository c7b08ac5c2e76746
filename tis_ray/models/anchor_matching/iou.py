"""Anchors matched by overlap (Ren et al. 2015), as torchvision does it and in as much memory as there is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tis_ray.config.section import Fraction
from tis_ray.models.anchor_matching import AnchorMatcher
from tis_ray.models.anchor_matching._overlaps import PAIRS_AT_ONCE, all_negative, check_bounds, stretches


@dataclass(frozen=True, slots=True, kw_only=True)
class IouMatching:
    """The rule of `build`; `pairs` of anchor and object are looked at at a time."""

    positive: float
    negative: float
    low_quality: bool
    pairs: int = PAIRS_AT_ONCE

    def __call__(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Labels 1, 0 or -1 and matched objects, both int64 (A,)."""
        if not len(boxes):
            return all_negative(anchors)
        closest = [(*iou.max(dim=0), iou.amax(dim=1)) for iou in stretches(anchors, boxes, pairs=self.pairs)]
        overlap, matched, best = zip(*closest, strict=True)
        labels = labels_of(torch.cat(overlap), positive=self.positive, negative=self.negative)
        if self.low_quality:
            labels = torch.where(self._best_of_some(anchors, boxes, torch.stack(best).amax(dim=0)), 1, labels)
        return labels, torch.cat(matched)

    def _best_of_some(self, anchors: Tensor, boxes: Tensor, best: Tensor) -> Tensor:
        """Bool (A,): which anchors overlap an object as much as its best one does, `best` (G,).

        What an object overlaps with nowhere is no match: else all anchors were its best.
        """
        wanted = torch.where(best > 0, best, torch.inf)[:, None]
        return torch.cat([(iou == wanted).any(dim=0) for iou in stretches(anchors, boxes, pairs=self.pairs)])


def labels_of(overlap: Tensor, *, positive: float, negative: float) -> Tensor:
    """Labels int64 (A,) of anchors by their largest overlaps (A,)."""
    return torch.where(overlap >= positive, 1, torch.where(overlap >= negative, -1, 0))


def build(*, positive: Fraction = 0.7, negative: Fraction = 0.3, low_quality: bool = True) -> AnchorMatcher:
    """Positive from an IoU of `positive` on with some object, negative below `negative` with all, neither in between.

    With `low_quality` each object's best anchors are positive too, ties included, whatever their IoU; an anchor that
    becomes so is matched with the object that it overlaps most itself. Raises `ConfigError` for bounds out of order.
    """
    check_bounds(positive=positive, negative=negative)
    return IouMatching(positive=positive, negative=negative, low_quality=low_quality)
