"""Pyramid Anchor of TIS (WAD 2018): two sides on every level, from 8 to 2048 px, for the tiniest and the largest.

The sides double from one to the next but for 128 and 192, so that eight octaves fit on five levels.
"""

from pydantic import PositiveFloat

from tis_ray.models.anchors import Ratios
from tis_ray.models.anchors.exact import ExactAnchors

MULTIPLES = ((1, 2), (4, 8), (16, 24), (32, 64), (128, 256))


def build(*, base: PositiveFloat = 8, aspect_ratios: Ratios = (0.5, 1.0, 2.0)) -> ExactAnchors:
    """Sides of `base` network pixels times 1 and 2, 4 and 8, 16 and 24, 32 and 64, 128 and 256, level by level."""
    return ExactAnchors([[base * multiple for multiple in level] for level in MULTIPLES], aspect_ratios)
