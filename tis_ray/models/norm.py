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
    """Wu and He 2018: 32 groups, or as many of a power of two below as divide `channels`."""
    return nn.GroupNorm(next(count for count in GROUP_COUNTS if channels % count == 0), channels)
