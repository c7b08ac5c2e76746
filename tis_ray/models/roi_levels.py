"""Which pyramid level a region of interest is pooled from, by its size.

A rule maps boxes, a list of float (R_i, 4) xyxy in the network frame, to levels int64 (sum of R_i,), 0 the finest of
those that regions are pooled from.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_area

from tis_ray.errors import ConfigError

LevelRule = Callable[[list[Tensor]], Tensor]
STRIDES = (4, 8, 16, 32)
CANONICAL_PX, CANONICAL_STRIDE = 224, 16
ROUNDING = 1e-6  # as torchvision has it: a side of exactly 112 px belongs to the coarser level


def level_rule(
    name: Literal["fpn", "pyramid"], anchor_sizes: Sequence[Sequence[float]], strides: Sequence[int] = STRIDES
) -> LevelRule:
    """The rule of that name for levels of these `strides`, finest first, each twice the one before.

    `anchor_sizes` are the sides of each level's anchors in network pixels; there may be more levels than `strides`.

    Where all regions are pooled from one level there is nothing to choose: `ConfigError` for `pyramid`.
    """
    if len(strides) == 1 and name == "pyramid":
        raise ConfigError("detector.roi_levels: pyramid expects a neck of several levels; got one with a single level")
    return fpn_levels(strides) if name == "fpn" else NearestAnchors(anchor_sizes[: len(strides)])


def fpn_levels(strides: Sequence[int] = STRIDES) -> LevelRule:
    """Lin et al. 2017: a region of 224 px on the level of stride 16, each halving one level finer."""
    return partial(_by_octaves, canonical=round(math.log2(CANONICAL_STRIDE / strides[0])), last=len(strides) - 1)


def _by_octaves(boxes: list[Tensor], *, canonical: int, last: int) -> Tensor:
    octaves = torch.log2(_sides(boxes) / CANONICAL_PX) + ROUNDING
    return (octaves.floor() + canonical).clamp(0, last).long()


def _sides(boxes: list[Tensor]) -> Tensor:
    """Square roots of the boxes' areas (R,)."""
    return torch.cat([box_area(one) for one in boxes]).sqrt()


class NearestAnchors:
    """The level whose anchors are nearest in log scale, so that regions are pooled where they were proposed.

    The bounds are geometric means of neighbouring levels' sides; what is coarser counts as the last level.
    For TIS's Pyramid Anchor (WAD 2018) they are 22.6, 90.5 and 221.7 px.
    """

    def __init__(self, anchor_sizes: Sequence[Sequence[float]]) -> None:
        bounds = [math.sqrt(max(fine) * min(coarse)) for fine, coarse in pairwise(anchor_sizes)]
        if bounds != sorted(bounds):
            came = [list(sides) for sides in anchor_sizes]
            raise ConfigError(f"detector.roi_levels: pyramid expects anchors that grow from level to level; got {came}")
        self.bounds = bounds

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        """Levels of the boxes' square roots of area."""
        sides = _sides(boxes)
        return torch.stack([sides > bound for bound in self.bounds]).sum(dim=0)
