"""RoIAlign (He et al. 2017) over the levels of a pyramid: what every pool of the menu `roi_pooling` reads maps with."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from tis_ray.models.roi_levels import LevelRule
from tis_ray.models.waits import waiting_is_free

Features = dict[str, Tensor]
SizesHW = Sequence[tuple[int, int]]
# Where a map has nothing: RoIAlign reads no pixel there and answers 0.
NOWHERE = -1e6


class Pyramid(NamedTuple):
    """What regions are pooled from: maps of `channels` at `strides`, finest first, and the rule that picks one."""

    channels: int
    strides: tuple[int, ...]
    levels: LevelRule


class PyramidRoIAlign(nn.Module):
    """RoIAlign on the level that a rule of `roi_levels` picks by each region's size: the pool `align` of the menu.

    torchvision's `MultiScaleRoIAlign` guesses the levels' strides from the first batch it sees, and guesses wrong
    where a tiny image was padded to a whole number of strides; here they are given.

    sampling_ratio: samples along each side of a cell
    aligned:        half a pixel of the map is taken off a box's corners, so that a cell's centre falls where it is
    """

    def __init__(self, pyramid: Pyramid, output_size: int, *, sampling_ratio: int = 2, aligned: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.out_channels = pyramid.channels
        self.strides = pyramid.strides
        self.levels = pyramid.levels
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

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
        scale = 1 / self.strides[level]
        return roi_align(features[str(level)], rois, self.output_size, scale, self.sampling_ratio, self.aligned)


def enlarged(boxes: Tensor, factor: float, size_hw: tuple[int, int]) -> Tensor:
    """Boxes (R, 4) with sides `factor` times as long about the same centres, clipped to the image."""
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * factor / 2
    return clipped(torch.cat([centres - half, centres + half], dim=1), size_hw)


def clipped(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) with corners moved into the image."""
    height, width = size_hw
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], dim=-1)
