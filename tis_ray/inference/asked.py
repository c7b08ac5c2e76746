"""What one request wants of a member, so that several may share a forward. No PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def _always() -> bool:
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
    wanted: Callable[[], bool] = _always
