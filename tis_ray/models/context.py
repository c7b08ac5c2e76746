"""Regions seen with what surrounds them."""

from typing import Literal

import torch
from torch import Tensor, nn

from tis_ray.models.pyramid_align import Features, SizesHW, enlarged
from tis_ray.models.roi_pooling import RoiPool


class ContextPooling(nn.Module):
    """Regions together with what surrounds them: pooled again enlarged, from the same level, and merged.

    One of the tricks of MegDetV2 (COCO 2019), which calls it larger context and gives no detail.
    """

    def __init__(self, pool: RoiPool, *, factor: float, merge: Literal["concat", "add"]) -> None:
        super().__init__()
        self.pool = pool
        self.factor = factor
        self.out_channels = pool.out_channels
        self.merge = nn.Conv2d(2 * pool.out_channels, pool.out_channels, 1) if merge == "concat" else None

    def forward(self, features: Features, boxes: list[Tensor], sizes_hw: SizesHW) -> Tensor:
        """Regions (R, C, S, S)."""
        levels = self.pool.levels(boxes)
        around = [enlarged(one, self.factor, size) for one, size in zip(boxes, sizes_hw, strict=True)]
        inner = self.pool(features, boxes, sizes_hw, levels=levels)
        outer = self.pool(features, around, sizes_hw, levels=levels)
        return inner + outer if self.merge is None else self.merge(torch.cat([inner, outer], dim=1))
