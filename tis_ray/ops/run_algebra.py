"""Set algebra on masks as runs: how large, where, what they share, what they cover together. No pixel is touched."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.run_columns import columns_of, shared_of_extras, shared_of_firsts
from tis_ray.ops.runs import Runs


def areas(runs: Runs) -> NDArray[np.int64]:
    """Number of set pixels of each mask, (N,)."""
    before = np.concatenate([[0], np.cumsum(runs.spans[:, 1] - runs.spans[:, 0])])
    return np.asarray(np.diff(before[runs.offsets]), dtype=np.int64)


def bounds(runs: Runs) -> NDArray[np.int64]:
    """The smallest box x1, y1, x2, y2 that holds each mask's pixels, int64 (N, 4); zeros where there are none."""
    return columns_of(runs).frames


def union(runs: Runs) -> Runs:
    """One mask of all pixels that any of the masks holds."""
    spans = runs.spans[np.argsort(runs.spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    begins = np.concatenate([[True], spans[1:, 0] > reach[:-1]])[: len(spans)]
    ends = np.concatenate([begins[1:], [True]])[: len(spans)]
    joined = np.stack([spans[begins, 0], reach[ends]], axis=1)
    return Runs(runs.height, runs.width, joined, np.array([0, len(joined)], dtype=np.int64))


def pairwise_shared(a: Runs, b: Runs) -> NDArray[np.int64]:
    """Number of pixels that each mask of `a` shares with each of `b`, (N, M).

    Pairs whose bounds do not meet cost nothing. Raises `InputError` for masks of another image size.
    """
    _check_one_image(a, b)
    both = columns_of(Runs.concatenate([a, b]))
    theirs = both.frames[len(a) :]
    by_left = np.argsort(theirs[:, 0], kind="stable")
    reach = np.maximum.accumulate(theirs[by_left, 2])
    return np.asarray(_pairwise(both, by_left, theirs[by_left, 0], reach))


def pairwise_iou(a: Runs, b: Runs) -> NDArray[np.float64]:
    """IoU of each mask of `a` with each of `b`, (N, M); 0 where neither has a pixel. As `pairwise_shared`."""
    shared = pairwise_shared(a, b)
    together = areas(a)[:, None] + areas(b) - shared
    return np.asarray(shared / np.maximum(together, 1))


def _check_one_image(a: Runs, b: Runs) -> None:
    if (a.height, a.width) != (b.height, b.width):
        raise InputError(
            f"masks: expected those of one image size; got {(a.height, a.width)} and {(b.height, b.width)}"
        )


@njit(cache=True)
def _pairwise(columns, by_left, lefts, reach):  # type: ignore[no-untyped-def]
    """What all but the last M masks share with these; `by_left` lists them by left edge, M positions from 0.

    `lefts` are these edges, `reach` the rightmost x2 so far.
    """
    frames, bases, tops, bottoms = columns.frames, columns.bases, columns.tops, columns.bottoms
    extras, extra_offsets, height = columns.extras, columns.extra_offsets, columns.height
    count = len(frames) - len(by_left)
    result = np.zeros((count, len(by_left)), dtype=np.int64)
    for i in range(count):
        first = np.searchsorted(reach, frames[i, 0], side="right")
        last = np.searchsorted(lefts, frames[i, 2])
        for k in range(first, last):
            j = count + by_left[k]
            low, high = max(frames[i, 0], frames[j, 0]), min(frames[i, 2], frames[j, 2])
            if low < high and frames[i, 1] < frames[j, 3] and frames[j, 1] < frames[i, 3]:
                shared = shared_of_firsts(tops, bottoms, bases[i] + low, bases[j] + low, high - low)
                shared += shared_of_extras(bases, tops, bottoms, extras, extra_offsets, height, i, j, low, high)
                result[i, j - count] = shared
    return result
