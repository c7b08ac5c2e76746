"""Set algebra on masks as runs: how large, where, what they share, what they cover together. No pixel is touched."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.run_columns import columns_of, shared_pixels
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
    ours, theirs = columns_of(a), columns_of(b)
    by_left = np.argsort(theirs.frames[:, 0], kind="stable")
    reach = np.maximum.accumulate(theirs.frames[by_left, 2])
    return np.asarray(_pairwise(ours, theirs, by_left, theirs.frames[by_left, 0], reach))


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
def _pairwise(a, b, by_left, lefts, reach):  # type: ignore[no-untyped-def]
    """`by_left` lists the masks of `b` by left edge; `lefts` are these edges, `reach` the rightmost x2 so far."""
    result = np.zeros((len(a.frames), len(b.frames)), dtype=np.int64)
    frames, others = a.frames, b.frames
    for i in range(len(frames)):
        first = np.searchsorted(reach, frames[i, 0], side="right")
        last = np.searchsorted(lefts, frames[i, 2])
        for k in range(first, last):
            j = by_left[k]
            if frames[i, 0] < others[j, 2] and frames[i, 1] < others[j, 3] and others[j, 1] < frames[i, 3]:
                result[i, j] = shared_pixels(a, i, b, j)
    return result
