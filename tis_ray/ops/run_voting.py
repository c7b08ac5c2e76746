"""Masks as runs that vote on each pixel by weight: the exact counterpart of averaging mask patches."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.runs import Runs


def weighted_vote(
    runs: Runs, picks: NDArray[np.int64], weights: NDArray[np.float64], *, threshold: float = 0.5
) -> Runs:
    """N masks: the pixels that masks with at least `threshold` of the weight of all that were picked hold.

    picks:   (N, S) positions in `runs`, or -1 for none
    weights: (N, S) how much each of them counts, 0 or more; that of no pick is not read

    A pixel is set where sum(weights of the picked masks that hold it) / sum(weights of the picked masks) is
    `threshold` (in 0..1) or more, both sums float64 in the order of the picks, and never where no mask of positive
    weight holds it. A mask without picks, or whose picks weigh 0, is empty.
    """
    if picks.shape != weights.shape or picks.ndim != 2:
        raise InputError(f"weights: expected one for each pick of (N, S); got {weights.shape} for {picks.shape}")
    if ((picks < -1) | (picks >= len(runs))).any():
        raise InputError(f"picks: expected -1..{len(runs) - 1}; got {picks.min()}..{picks.max()}")
    weights = np.where(picks >= 0, weights, 0.0)
    spans, offsets = _vote(
        np.ascontiguousarray(runs.spans), runs.offsets, np.ascontiguousarray(picks), weights, float(threshold)
    )
    return Runs(runs.height, runs.width, spans, offsets)


@njit(cache=True)
def _vote(spans, offsets, picks, weights, threshold):  # type: ignore[no-untyped-def]
    result = np.empty((1024, 2), dtype=np.int64)
    result_offsets = np.zeros(len(picks) + 1, dtype=np.int64)
    count = 0
    for n in range(len(picks)):
        voters = picks[n][weights[n] > 0]
        shares = weights[n][weights[n] > 0]
        room = 0
        for p in voters:
            room += offsets[p + 1] - offsets[p]
        while count + room > len(result):
            result = np.concatenate((result, np.empty_like(result)))
        count = _sweep(spans, offsets, voters, shares, threshold, result, count)
        result_offsets[n + 1] = count
    return result[:count].copy(), result_offsets


@njit(cache=True)
def _sweep(spans, offsets, voters, shares, threshold, result, count):  # type: ignore[no-untyped-def]
    """Writes one mask's spans to `result` from position `count` on; returns the position after them.

    Between two ends of the voters' spans nothing changes. There the sum is taken afresh: adding and taking away
    would leave rounding, and a pixel at the threshold itself would go by it.
    """
    nowhere = np.int64(np.iinfo(np.int64).max)
    total = 0.0
    for share in shares:
        total += share
    inside = np.zeros(len(voters), dtype=np.bool_)
    position = np.empty(len(voters), dtype=np.int64)  # the span that each is in or before
    ahead = np.empty(len(voters), dtype=np.int64)  # and the end of a span that it meets next
    for s in range(len(voters)):
        position[s] = offsets[voters[s]]
        ahead[s] = spans[position[s], 0] if position[s] < offsets[voters[s] + 1] else nowhere
    start = np.int64(-1)
    while True:
        here = nowhere
        for s in range(len(voters)):
            here = min(here, ahead[s])
        if here == nowhere:
            return count
        held = 0.0
        for s in range(len(voters)):
            if ahead[s] == here:
                inside[s] = not inside[s]
                if inside[s]:
                    ahead[s] = spans[position[s], 1]
                else:
                    position[s] += 1
                    ahead[s] = spans[position[s], 0] if position[s] < offsets[voters[s] + 1] else nowhere
            if inside[s]:
                held += shares[s]
        chosen = held > 0 and held / total >= threshold
        if chosen and start < 0:
            start = here
        elif not chosen and start >= 0:
            result[count] = start, here
            count += 1
            start = np.int64(-1)
