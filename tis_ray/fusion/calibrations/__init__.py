"""Menu of calibrations: how a member's scores become comparable with those of the others.

A calibrated score says how often a detection of that score is a hit. Each module exports `calibrate`, a `Calibrate`
once its options are bound; its keyword-only arguments, all with defaults, are the options a config may set, and the
defaults change nothing that matters. It
- gives scores in 0..1, and never a lower one for a higher score: the order within a member stays;
- leaves its input untouched.

Each module also exports `fit`, a `Fit`, which finds the options for a validation set.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Calibrate(Protocol):
    """Scores float32 (N,) in 0..1 to scores float32 (N,) in 0..1."""

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]: ...


class Fit(Protocol):
    """The options, plain numbers that YAML holds, from `scores` float32 (N,) and which of them are `hits`, bool (N,).

    Both kinds must be there: at least one hit and at least one that is none.
    """

    def __call__(self, scores: NDArray[np.float32], hits: NDArray[np.bool_]) -> dict[str, Any]: ...
