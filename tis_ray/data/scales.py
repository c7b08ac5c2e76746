"""Training scales, shorter edges in pixels: which one a sample is drawn, and which stand for all of them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

ScaleSampling = Literal["choice", "range"]  # one of the scales; any whole number from the least to the largest

STEPS = 10


def draw_scale(scales: Sequence[int], sampling: ScaleSampling, chance: np.random.Generator) -> int:
    """The scale of a sample. One number is drawn from `chance`."""
    if sampling == "range":
        return int(chance.integers(min(scales), max(scales), endpoint=True))
    return scales[chance.integers(len(scales))]


def standing_for(scales: Sequence[int], sampling: ScaleSampling) -> tuple[int, ...]:
    """What a sample's scale may be, of a range eleven scales spread from end to end, or all where fewer are."""
    if sampling == "choice":
        return tuple(scales)
    low, high = min(scales), max(scales)
    return tuple(np.linspace(low, high, min(STEPS, high - low) + 1).round().astype(int).tolist())
