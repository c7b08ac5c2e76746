"""Regions of interest pooled from a pyramid: RoIAlign (He et al. 2017), alone or with the surroundings.

A pool is called with the levels, a dict of maps (B, C, H/s, W/s), the boxes of each image, float (R_i, 4) xyxy in the
network frame, and the images' sizes; it gives regions (R, C, `output_size`, `output_size`), image by image.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from tis_ray.models.roi_levels import LevelRule
from tis_ray.models.waits import waiting_is_free

Features = dict[str, Tensor]
SizesHW = Sequence[tuple[int, int]]
# Where a map has nothing: RoIAlign reads no pixel there and answers 0.
NOWHERE = -1e6


class PyramidRoIAlign(nn.Module):
    """RoIAlign on the level that a rule of `roi_levels` picks by each region's size.

    torchvision's `MultiScaleRoIAlign` guesses the levels' strides from the first batch it sees, and guesses wrong
    where a tiny image was padded to a whole number of strides; here they are given.
    """

    def __init__(self, output_size: int, *, strides: Sequence[int], levels: LevelRule, sampling_ratio: int = 2) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)
        self.levels = levels
        self.sampling_ratio = sampling_ratio

    def forward(
        self, features: Features, boxes: list[Tensor], _sizes_hw: SizesHW, *, levels: Tensor | None = None
    ) -> Tensor:
        """Regions (R, C, S, S); `levels` int64 (R,) says where each is pooled, in the place of the rule."""
        rois = torch.cat([torch.cat([box.new_full((len(box), 1), i), box], 1) for i, box in enumerate(boxes)])
        if len(self.strides) == 1:
            return self._align(features, 0, rois)
        levels = self.levels(boxes) if levels is None else levels
        return (self._in_turn if waiting_is_free(rois.device) else self._at_once)(features, rois, levels)

    def _in_turn(self, features: Features, rois: Tensor, levels: Tensor) -> Tensor:
        """Each level pools its own regions, once their number is known."""
        maps = features["0"]
        regions = maps.new_zeros((len(rois), maps.shape[1], self.output_size, self.output_size))
        for level in range(len(self.strides)):
            index = torch.nonzero(levels == level).flatten()
            regions = regions.index_copy(0, index, self._align(features, level, rois[index]))
        return regions

    def _at_once(self, features: Features, rois: Tensor, levels: Tensor) -> Tensor:
        """Each level pools all regions, those of others as nothing: no wait, and little work on a GPU."""
        corners = [rois[:, 1:].where((levels == level)[:, None], NOWHERE) for level in range(len(self.strides))]
        parts = [self._align(features, i, torch.cat([rois[:, :1], one], 1)) for i, one in enumerate(corners)]
        return torch.stack(parts).sum(dim=0)

    def _align(self, features: Features, level: int, rois: Tensor) -> Tensor:
        return roi_align(features[str(level)], rois, self.output_size, 1 / self.strides[level], self.sampling_ratio)


class ContextPooling(nn.Module):
    """Regions together with what surrounds them: pooled again enlarged, from the same level, and merged.

    One of the tricks of MegDetV2 (COCO 2019), which calls it larger context and gives no detail.
    """

    def __init__(self, pool: PyramidRoIAlign, channels: int, *, factor: float, merge: Literal["concat", "add"]) -> None:
        super().__init__()
        self.pool = pool
        self.factor = factor
        self.merge = nn.Conv2d(2 * channels, channels, 1) if merge == "concat" else None

    def forward(self, features: Features, boxes: list[Tensor], sizes_hw: SizesHW) -> Tensor:
        """Regions (R, C, S, S)."""
        levels = self.pool.levels(boxes)
        around = [enlarged(one, self.factor, size) for one, size in zip(boxes, sizes_hw, strict=True)]
        inner = self.pool(features, boxes, sizes_hw, levels=levels)
        outer = self.pool(features, around, sizes_hw, levels=levels)
        return inner + outer if self.merge is None else self.merge(torch.cat([inner, outer], dim=1))


def enlarged(boxes: Tensor, factor: float, size_hw: tuple[int, int]) -> Tensor:
    """Boxes (R, 4) with sides `factor` times as long about the same centres, clipped to the image."""
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * factor / 2
    return clipped(torch.cat([centres - half, centres + half], dim=1), size_hw)


def clipped(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) with corners moved into the image."""
    height, width = size_hw
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], dim=-1)
