"""Menu of anchors. Each module exports `build(strides, *, ...) -> AnchorGenerator`; its name is the option's name.

A generator lays the same boxes around every cell of each of the neck's levels, whose `strides` in network pixels it is
given finest first; equally many on each level. It keeps their sides in `sizes`: one tuple of network pixels for each
level. Boxes that exceed the image stay: objects as large as the picture match no others.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveFloat

from tis_ray.errors import ConfigError

Sizes = Annotated[tuple[Annotated[tuple[PositiveFloat, ...], Field(min_length=1)], ...], Field(min_length=1)]
Ratios = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]  # height / width


def check_levels(sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> None:
    """Raise `ConfigError` unless there are as many levels of `sizes` as of `strides`, with equally many sides each."""
    if len(sizes) != len(strides) or len({len(sides) for sides in sizes}) != 1:
        raise ConfigError(
            f"detector.anchors: expected {len(strides)} levels, as the neck has them, with equally many sides each; "
            f"got {[list(sides) for sides in sizes]}"
        )
