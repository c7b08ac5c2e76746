"""Masks of one image that share no pixel: of those that do, one keeps it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.runs import Runs
from tis_ray.ops.span_buffer import longer


def disjoint(runs: Runs, order: NDArray[np.int64]) -> Runs:
    """The N masks in their places, where each pixel stays with the first in `order` (N,) of those that hold it.

    order: every position 0..N-1 once. One byte for each pixel of the image is used.
    """
    if not np.array_equal(np.sort(order), np.arange(len(runs))):
        raise InputError(f"order: expected every position below {len(runs)} once; got {order}")
    found, begins, counts = _disjoint(runs.spans, runs.offsets, order, runs.height * runs.width)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    positions = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)
    return Runs(runs.height, runs.width, found[positions], offsets)


@njit(cache=True)
def _disjoint(spans, offsets, order, pixels):  # type: ignore[no-untyped-def]
    """Spans in the order of their masks' turns, where those of each mask begin, and how many it has."""
    taken = np.zeros(pixels, dtype=np.bool_)
    begins, counts = np.zeros(len(order), dtype=np.int64), np.zeros(len(order), dtype=np.int64)
    found = np.empty((len(spans) + 16, 2), dtype=np.int64)
    n = np.int64(0)
    for mask in order:
        begins[mask] = n
        for i in range(offsets[mask], offsets[mask + 1]):
            start = np.int64(-1)
            for pixel in range(spans[i, 0], spans[i, 1]):
                if taken[pixel]:
                    start = np.int64(-1)
                    continue
                taken[pixel] = True
                if start < 0:
                    if n == len(found):
                        found = longer(found, n, 2 * n)
                    start = np.int64(pixel)
                    found[n, 0] = start
                    n += 1
                found[n - 1, 1] = pixel + 1
        counts[mask] = n - begins[mask]
    return found, begins, counts
