"""Averages of mask patches that lie over different boxes, from patch to patch: no full-frame mask is formed."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes


def average_onto(
    boxes: Boxes,
    patches: NDArray[np.float16],
    frames: Boxes,
    picks: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.float16]:
    """Patches (N, M, M) over `boxes` (N, 4): each the weighted mean of those of `patches` that were picked for it.

    patches: (P, M, M) probabilities over `frames` (P, 4) xyxy in the frame of `boxes`
    picks, weights: (N, S) positions in `patches`, or -1 for none, and how much each of them counts

    A patch is read bilinearly between its cells' centres, as where masks are pasted: outside its frame its
    probability is 0, and it falls to that within half a cell of the border. A frame without area counts as 0
    everywhere. Where no pick has weight, the mean is 0.
    """
    size = patches.shape[1]
    used, compact = np.unique(picks, return_inverse=True)
    ringed = np.zeros((len(used), size + 2, size + 2), dtype=np.float32)  # a ring of zeros around each
    chosen = used >= 0
    ringed[chosen, 1:-1, 1:-1] = patches[used[chosen]]
    return np.asarray(
        _average(
            boxes.astype(np.float64),
            ringed,
            frames[used].astype(np.float64) if len(frames) else np.zeros((len(used), 4)),
            compact.reshape(picks.shape),
            np.where(picks >= 0, weights, 0.0),
        ).astype(np.float16)
    )


@njit(cache=True)
def _average(boxes, ringed, frames, picks, weights):  # type: ignore[no-untyped-def]
    size = ringed.shape[1] - 2
    result = np.zeros((len(boxes), size, size), dtype=np.float32)
    columns, shares = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.float32)
    for n in range(len(boxes)):
        total = weights[n].sum()
        for s in range(picks.shape[1]):
            p, weight = picks[n, s], weights[n, s]
            width, height = frames[p, 2] - frames[p, 0], frames[p, 3] - frames[p, 1]
            if weight <= 0 or width <= 0 or height <= 0:
                continue
            weight = np.float32(weight / total)
            for j in range(size):
                x = boxes[n, 0] + (j + 0.5) / size * (boxes[n, 2] - boxes[n, 0])
                columns[j], shares[j] = _cell((x - frames[p, 0]) / width * size, size)
            for i in range(size):
                y = boxes[n, 1] + (i + 0.5) / size * (boxes[n, 3] - boxes[n, 1])
                row, share = _cell((y - frames[p, 1]) / height * size, size)
                upper, lower = weight * (np.float32(1) - share), weight * share
                for j in range(size):
                    k = columns[j]
                    left = upper * ringed[p, row, k] + lower * ringed[p, row + 1, k]
                    right = upper * ringed[p, row, k + 1] + lower * ringed[p, row + 1, k + 1]
                    result[n, i, j] += left + shares[j] * (right - left)
    return result


@njit(cache=True)
def _cell(position, size):  # type: ignore[no-untyped-def]
    """The ringed cell whose centre precedes `position`, in cells from the frame's border, and the share of the next."""
    position = min(max(position + 0.5, 0.0), size + 1.0)  # cell 0 is the ring, its centre at -0.5
    cell = min(int(position), size)
    return cell, np.float32(position - cell)
