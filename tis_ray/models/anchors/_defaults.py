"""The sides that anchors have where a recipe names none."""

from collections.abc import Sequence

STRIDES_PER_SIDE = 8  # a square of 32 px on stride 4, as Lin et al. 2017 have it
SIDES = (32.0, 64.0, 128.0, 256.0, 512.0)


def default_sizes(strides: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """One side for each level of a pyramid, 8 of its strides: 32 to 512 px for five; all of these for a single map."""
    if len(strides) == 1:
        return (SIDES,)
    return tuple((float(STRIDES_PER_SIDE * stride),) for stride in strides)
