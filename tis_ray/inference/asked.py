"""What one request wants of a member, so that several may share a forward. No PyTorch.

How a view server asks: `Predictor.predict_together` for the first pass and `remember_together` where only features
are wanted of it, `predict_masks` for the second. How many may wait for one forward `pictures_at_once` says; more of
them gain nothing, since all are answered together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class NotWantedError(Exception):
    """Nobody waits for the masks that were asked for: `predict_masks` stopped before its next forward."""


def always() -> bool:
    """Of what somebody waits for to the end."""
    return True


@dataclass(frozen=True, slots=True)
class Asked:
    """One picture that waits for a member's views.

    image:    uint8 RGB (H, W, 3), read only
    remember: the key under which features are kept for a second pass, if there is one
    wanted:   whether anybody still waits for it; asked again before each forward, in the model's thread
    """

    image: NDArray[np.uint8]
    remember: str | None = None
    wanted: Callable[[], bool] = always
