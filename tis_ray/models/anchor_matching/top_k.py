"""Every object's best anchors are positive, as MegDetV2 (COCO 2019) has it: 35 for a tiny one as for a large one.

An object of a few pixels overlaps few anchors by much, and by the rule of overlap alone it is learnt from one or two.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from tis_ray.config.section import Fraction
from tis_ray.models.anchor_matching import AnchorMatcher
from tis_ray.models.anchor_matching._overlaps import PAIRS_AT_ONCE, all_negative, check_bounds, stretches
from tis_ray.models.anchor_matching.iou import labels_of

Share = Annotated[float, Field(gt=0, le=1)]
LOW_BITS = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TopMatching:
    """The rule of `build`; `pairs` of anchor and object are looked at at a time."""

    count: int
    min_iou: float
    positive: float
    negative: float
    pairs: int = PAIRS_AT_ONCE

    def __call__(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Labels 1, 0 or -1 and matched objects, both int64 (A,)."""
        if not len(boxes):
            return all_negative(anchors)
        return self.match(stretches(anchors, boxes, pairs=self.pairs))

    def match(self, parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Labels and matched objects from the IoU (G, C) of at least one object with C anchors after the other."""
        closest, claims, first = [], None, 0
        for iou in parts:
            closest.append(iou.max(dim=0))
            own = self._largest(ranked(iou, torch.arange(first, first + iou.shape[1], device=iou.device)))
            claims = own if claims is None else self._largest(torch.cat([claims, own], dim=1))
            first += iou.shape[1]
        overlap, matched = (torch.cat(values) for values in zip(*closest, strict=True))
        labels = labels_of(overlap, positive=self.positive, negative=self.negative)
        owner = self._owners(claims, first)
        matched = torch.where((owner >= 0) & (labels != 1), owner, matched)
        return torch.where(owner >= 0, 1, labels), matched

    def _largest(self, keys: Tensor) -> Tensor:
        """The up to `count` largest keys of each object."""
        return keys.topk(min(self.count, keys.shape[1]), dim=1).values

    def _owners(self, claims: Tensor, num_anchors: int) -> Tensor:
        """Which object each anchor goes to, int64 (A,): of those that claim it the closest; -1 where none does."""
        iou, anchor = unranked(claims)  # (G, K)
        objects = torch.arange(len(claims), device=claims.device)[:, None]
        bids = torch.where(iou >= self.min_iou, ranked(iou, objects), -1)
        won = torch.full((num_anchors,), -1, dtype=torch.int64, device=claims.device)
        won = won.scatter_reduce(0, anchor.flatten(), bids.flatten(), "amax")
        return torch.where(won < 0, -1, unranked(won)[1])


def ranked(iou: Tensor, places: Tensor) -> Tensor:
    """Keys int64 that order by `iou`, at least 0, and by `places` from 0 where it is equal, the first one largest.

    Which of several equal overlaps a plain sort takes first depends on the device and on how many there are. A float
    that is not negative orders as its bits do.
    """
    return (iou.float().contiguous().view(torch.int32).long() << 32) + (LOW_BITS - places)


def unranked(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The `iou` and `places` of `ranked`."""
    return (keys >> 32).int().view(torch.float32), LOW_BITS - (keys & LOW_BITS)


def build(
    *, count: PositiveInt = 35, min_iou: Share = 0.1, positive: Fraction = 0.7, negative: Fraction = 0.3
) -> AnchorMatcher:
    """Each object claims the `count` anchors that it overlaps most, of those with an IoU of at least `min_iou`.

    An anchor that several claim goes to the one it overlaps most. All others are positive from an IoU of `positive` on,
    negative below `negative`, and neither in between. Raises `ConfigError` for bounds out of order.
    """
    check_bounds(positive=positive, negative=negative)
    return TopMatching(count=count, min_iou=min_iou, positive=positive, negative=negative)
