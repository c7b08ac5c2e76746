"""Pyramid Anchor of TIS (WAD 2018): two sides on every level, from 8 to 2048 px, for the tiniest and the largest.

The sides double from one to the next but for 128 and 192, so that eight octaves fit on five levels.
"""

from collections.abc import Sequence

from pydantic import PositiveFloat

from tis_ray.errors import ConfigError
from tis_ray.models.anchors import Ratios
from tis_ray.models.anchors.exact import ExactAnchors

MULTIPLES = ((1, 2), (4, 8), (16, 24), (32, 64), (128, 256))


def build(strides: Sequence[int], *, base: PositiveFloat = 8, aspect_ratios: Ratios = (0.5, 1.0, 2.0)) -> ExactAnchors:
    """Sides of `base` network pixels times 1 and 2, 4 and 8, 16 and 24, 32 and 64, 128 and 256, level by level.

    Raises `ConfigError` for a neck that has not five levels.
    """
    if len(strides) != len(MULTIPLES):
        raise ConfigError(
            f"detector.anchors: expected anchors other than pyramid, whose sides are shared out over five levels; "
            f"got a neck with {len(strides)}, of stride {', '.join(map(str, strides))}"
        )
    sizes = [[base * multiple for multiple in level] for level in MULTIPLES]
    return ExactAnchors(sizes, aspect_ratios, strides=strides)
