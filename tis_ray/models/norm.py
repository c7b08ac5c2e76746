"""Normalisation layers of necks and heads, by the name a recipe gives them."""

from collections.abc import Callable

from torch import nn

from tis_ray.config import Norm

GROUP_COUNTS = (32, 16, 8, 4, 2, 1)


def norm_layer(norm: Norm | None) -> Callable[[int], nn.Module] | None:
    """What makes a layer for a number of channels; None stands for no normalisation."""
    if norm is None:
        return None
    return {"batch": nn.BatchNorm2d, "group": group_norm}[norm]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He 2018) of `num_groups` groups."""
    return nn.GroupNorm(num_groups(channels), channels)


def num_groups(channels: int) -> int:
    """32, or the largest smaller power of two that divides `channels`."""
    return next(count for count in GROUP_COUNTS if channels % count == 0)
