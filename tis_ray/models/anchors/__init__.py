"""Menu of anchors. Each module exports `build(*, ...) -> AnchorGenerator`; its name is the option's name.

A generator lays the same boxes around every cell of a pyramid level, equally many on each of the five levels, and
keeps their sides in `sizes`: one tuple of network pixels for each level, finest first. Boxes that exceed the image
stay: objects as large as the picture match no others.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat

STRIDES = (4, 8, 16, 32, 64)  # of the pyramid's levels, in network pixels


def _check_levels(sizes: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if len(sizes) != len(STRIDES) or len({len(sides) for sides in sizes}) != 1:
        came = [list(sides) for sides in sizes]
        raise ValueError(f"expected {len(STRIDES)} levels with equally many sides each; got {came}")
    return sizes


Sizes = Annotated[tuple[Annotated[tuple[PositiveFloat, ...], Field(min_length=1)], ...], AfterValidator(_check_levels)]
Ratios = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]  # height / width
