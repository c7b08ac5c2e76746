"""Anchors of exact size and place, in float32 whatever the feature maps hold.

torchvision rounds the corners of its base anchors to whole pixels, which turns an 8 px anchor of ratio 0.5 into
12 x 6 (area 72, not 64): too coarse for tiny objects. It also places anchors in the type of the feature maps, where
bfloat16 under autocast would move them by up to 16 px, and guesses each level's stride from rounded sizes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from tis_ray.models.anchors import Ratios, Sizes, check_levels
from tis_ray.models.anchors._defaults import default_sizes


class ExactAnchors(AnchorGenerator):
    """torchvision's anchor generator without rounding; ratios are height / width, one stride for each level.

    Raises `ConfigError` unless there are as many levels of `sizes` as of `strides`, with equally many sides each.
    """

    def __init__(
        self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[float], *, strides: Sequence[int]
    ) -> None:
        check_levels(sizes, strides)
        super().__init__(tuple(map(tuple, sizes)), (tuple(aspect_ratios),) * len(sizes))
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),
    ) -> Tensor:
        """Base anchors (len(ratios) * len(scales), 4) xyxy around the origin, ratio by ratio."""
        sides = torch.as_tensor(scales, dtype=dtype, device=device)
        root = torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        heights = (root[:, None] * sides[None, :]).flatten()
        widths = (sides[None, :] / root[:, None]).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """All anchors float32 (A, 4) xyxy in the network frame, level by level, the same for each image."""
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        grids = [list(level.shape[-2:]) for level in feature_maps]
        anchors = torch.cat(self.grid_anchors(grids, [[stride, stride] for stride in self.strides]))
        return [anchors] * len(image_list.image_sizes)


def build(
    strides: Sequence[int], *, sizes: Sizes | None = None, aspect_ratios: Ratios = (0.5, 1.0, 2.0)
) -> ExactAnchors:
    """Every side of `sizes`, one tuple per level from fine to coarse, at every height/width ratio.

    By default one side of 8 strides on each level, 32 to 512 px on five; all five of them where there is one level.
    """
    return ExactAnchors(default_sizes(strides) if sizes is None else sizes, aspect_ratios, strides=strides)
