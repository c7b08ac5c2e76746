"""Which pyramid level a region of interest is pooled from, by its size.

A rule maps boxes, a list of float (R_i, 4) xyxy in the network frame, to levels int64 (sum of R_i,), 0 the finest of
strides 4, 8, 16 and 32.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_area

from tis_ray.errors import ConfigError

LevelRule = Callable[[list[Tensor]], Tensor]
NUM_LEVELS = 4
CANONICAL_PX, CANONICAL_LEVEL = 224, 2
ROUNDING = 1e-6  # as torchvision has it: a side of exactly 112 px belongs to the coarser level


def level_rule(
    name: Literal["fpn", "pyramid"], anchor_sizes: Sequence[Sequence[float]], num_levels: int = NUM_LEVELS
) -> LevelRule:
    """The rule of that name; `anchor_sizes` are the sides of each level's anchors in network pixels.

    Where all regions are pooled from one level there is nothing to choose: `ConfigError` for `pyramid`.
    """
    if num_levels == 1 and name == "pyramid":
        raise ConfigError("detector.roi_levels: pyramid expects a neck of several levels; got one with a single level")
    return fpn_levels() if name == "fpn" else NearestAnchors(anchor_sizes)


def fpn_levels() -> LevelRule:
    """Lin et al. 2017: a region of 224 px on the level of stride 16, each halving one level finer."""
    return _by_octaves


def _by_octaves(boxes: list[Tensor]) -> Tensor:
    octaves = torch.log2(_sides(boxes) / CANONICAL_PX) + ROUNDING
    return (octaves.floor() + CANONICAL_LEVEL).clamp(0, NUM_LEVELS - 1).long()


def _sides(boxes: list[Tensor]) -> Tensor:
    """Square roots of the boxes' areas (R,)."""
    return torch.cat([box_area(one) for one in boxes]).sqrt()


class NearestAnchors:
    """The level whose anchors are nearest in log scale, so that regions are pooled where they were proposed.

    The bounds are geometric means of neighbouring levels' sides; coarser ones than stride 32 count as stride 32.
    For TIS's Pyramid Anchor (WAD 2018) they are 22.6, 90.5 and 221.7 px.
    """

    def __init__(self, anchor_sizes: Sequence[Sequence[float]]) -> None:
        levels = anchor_sizes[:NUM_LEVELS]
        bounds = [math.sqrt(max(fine) * min(coarse)) for fine, coarse in pairwise(levels)]
        if bounds != sorted(bounds):
            came = [list(sides) for sides in anchor_sizes]
            raise ConfigError(f"detector.roi_levels: pyramid expects anchors that grow from level to level; got {came}")
        self.bounds = bounds

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        """Levels of the boxes' square roots of area."""
        sides = _sides(boxes)
        return torch.stack([sides > bound for bound in self.bounds]).sum(dim=0)
