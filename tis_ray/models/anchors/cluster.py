"""Cluster Anchor of TIS (WAD 2018): one side on every level, where the sizes of a data set's objects gather.

The sides are the centres of k-means over the square roots of the boxes' areas, after the resize of training. For WAD
and five levels the paper has 7 times 2, 8, 18, 38 and 80.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveFloat

from tis_ray.models.anchors import Ratios
from tis_ray.models.anchors.exact import ExactAnchors

Sides = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


def build(
    strides: Sequence[int],
    *,
    sizes: Sides = (14.0, 56.0, 126.0, 266.0, 560.0),
    aspect_ratios: Ratios = (0.5, 1.0, 2.0),
) -> ExactAnchors:
    """One side in network pixels for each level, from fine to coarse, at every height/width ratio.

    A neck with a single level gets all of them. Raises `ConfigError` where levels and sides differ in number.
    """
    return ExactAnchors([sizes] if len(strides) == 1 else [(side,) for side in sizes], aspect_ratios, strides=strides)
