"""Positions in the order of a float, equals as they come: what every rule that takes boxes best first begins with."""

import numpy as np
from numpy.typing import NDArray


def rising(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positions (N,) of float32 `values` (N,) from the lowest up, equal ones (-0 and 0 are equal) as they come.

    The bits of a float, read as a whole number, keep its order; with its position below them no two keys are equal,
    so that numpy's fastest sort will do, which takes a tenth of the time of a stable one.
    """
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # negative numbers grow downwards
    keys = bits << 32 | np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF


def falling(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positions (N,) of float32 `values` (N,) from the highest down, equal ones as they come."""
    return rising(-values)
