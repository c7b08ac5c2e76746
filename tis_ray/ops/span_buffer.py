"""Room for spans whose number shows only while they are written."""

import numpy as np
from numba import njit


@njit(cache=True)
def longer(spans, count, length):  # type: ignore[no-untyped-def]
    """The first `count` of the spans (R, 2) in an array of `length`."""
    result = np.empty((length, 2), dtype=np.int64)
    for i in range(count):
        result[i, 0], result[i, 1] = spans[i, 0], spans[i, 1]
    return result
