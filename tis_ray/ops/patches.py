"""Averages of mask patches that lie over different boxes, from patch to patch: no full-frame mask is formed."""

from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes

Of = Literal["probability", "logit"]

_UNLIKELY = 1e-6  # logits are those of probabilities from here to 1 - this: none is infinitely sure


def average_onto(
    boxes: Boxes,
    patches: NDArray[np.float16],
    frames: Boxes,
    picks: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    of: Of = "probability",
) -> NDArray[np.float16]:
    """Patches (N, M, M) over `boxes` (N, 4): each the weighted mean of those of `patches` that were picked for it.

    patches: (P, M, M) probabilities over `frames` (P, 4) xyxy in the frame of `boxes`
    picks, weights: (N, S) positions in `patches`, or -1 for none, and how much each of them counts, 0 or more
    of: what the mean is taken of at each point; that of logits, log(p / (1 - p)), is made a probability again

    A patch is read bilinearly between its cells' centres, as where masks are pasted: outside its frame its
    probability is 0, and it falls to that within half a cell of the border. A frame without area counts as 0
    everywhere. Logits are those of the probabilities so read, kept within 1e-6..1 - 1e-6: a patch that ends before
    a point speaks firmly against it. Where no pick has weight, the mean is 0.
    """
    size = patches.shape[1]
    used, compact = np.unique(picks, return_inverse=True)
    ringed = np.zeros((len(used), size + 2, size + 2), dtype=np.float32)  # a ring of zeros around each
    chosen = used >= 0
    ringed[chosen, 1:-1, 1:-1] = patches[used[chosen]]
    means = _average(
        boxes.astype(np.float64),
        ringed,
        frames[used].astype(np.float64) if len(frames) else np.zeros((len(used), 4)),
        compact.reshape(picks.shape).astype(np.uint64),
        np.where(picks >= 0, weights, 0.0),
        of == "logit",
    )
    return np.asarray(means.astype(np.float16))


@njit(cache=True)
def _average(boxes, ringed, frames, picks, weights, logits):  # type: ignore[no-untyped-def]
    size = ringed.shape[1] - 2
    result = np.zeros((len(boxes), size, size), dtype=np.float32)
    columns, shares = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.float32)
    line, values = np.empty(size + 2, dtype=np.float32), np.empty(size, dtype=np.float32)
    for n in range(len(boxes)):
        total = weights[n].sum()
        for s in range(picks.shape[1]):
            if weights[n, s] <= 0:
                continue
            p, weight = picks[n, s], np.float32(weights[n, s] / total)
            width, height = frames[p, 2] - frames[p, 0], frames[p, 3] - frames[p, 1]
            if width <= 0 or height <= 0:
                if logits:
                    result[n] += weight * _logit(np.float32(0))
                continue
            for j in range(size):
                x = boxes[n, 0] + (j + 0.5) / size * (boxes[n, 2] - boxes[n, 0])
                columns[j], shares[j] = _cell((x - frames[p, 0]) / width * size, size)
            for i in range(size):
                y = boxes[n, 1] + (i + 0.5) / size * (boxes[n, 3] - boxes[n, 1])
                row, share = _cell((y - frames[p, 1]) / height * size, size)
                _mix(ringed[p, row], ringed[p, row + np.uint64(1)], share, line)
                for j in range(size):
                    left = line[columns[j]]
                    values[j] = left + shares[j] * (line[columns[j] + np.uint64(1)] - left)
                if logits:
                    for j in range(size):
                        values[j] = _logit(values[j])
                for j in range(size):
                    result[n, i, j] += weight * values[j]
        if logits and total > 0:
            result[n] = np.float32(1) / (np.float32(1) + np.exp(-result[n]))
    return result


@njit(cache=True)
def _cell(position, size):  # type: ignore[no-untyped-def]
    """The ringed cell whose centre precedes `position`, in cells from the frame's border, and the share of the next."""
    position = min(max(position + 0.5, 0.0), size + 1.0)  # cell 0 is the ring, its centre at -0.5
    cell = min(int(position), size)
    return np.uint64(cell), np.float32(position - cell)


@njit(cache=True)
def _mix(upper, lower, share, line):  # type: ignore[no-untyped-def]
    """Write the row of cells that lies between two rows, by the share of the lower."""
    rest = np.float32(1) - share
    for k in range(len(line)):
        line[k] = rest * upper[k] + share * lower[k]


@njit(cache=True)
def _logit(probability):  # type: ignore[no-untyped-def]
    """Its float32 logit, in float64 up to there: float32 knows 1 - 1e-6 to 5% of the 1e-6 only."""
    kept = min(max(np.float64(probability), _UNLIKELY), 1 - _UNLIKELY)
    return np.float32(np.log(kept / (1 - kept)))
