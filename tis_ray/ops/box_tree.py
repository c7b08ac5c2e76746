"""Boxes sorted so that those of one group (a class) that may overlap a given box are found without looking at the rest.

The boxes are sorted by group and along a Z-order curve of their centres, and each run of 8 of them, each run of 8 such
runs and so on has its bounds: an R-tree without pointers. A search skips every run whose bounds the given box does not
reach. Memory and the time of building grow with N (and the sort's log N), whatever the boxes' sizes and places.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes
from tis_ray.ops.overlaps import Groups

BITS = 3  # of the positions within a run: 8 boxes to a run, 8 runs to one of the next level


class BoxTree(NamedTuple):
    """N sorted boxes and the bounds of their runs; the kernels take it as it is, numbers and arrays alone."""

    order: NDArray[np.int64]  # (N,) position of each among the boxes it was built of
    groups: Groups  # (N,) ascending
    boxes: NDArray[np.float64]  # (N, 4)
    bounds: NDArray[np.float64]  # (runs, 4) of every level, the runs of 8 boxes first
    levels: NDArray[np.int64]  # (levels,) where the runs of each begin in `bounds`


def build(boxes: Boxes, groups: Groups) -> BoxTree:
    """The tree of boxes (N, 4) that lie in `groups` (N,)."""
    placed = boxes.astype(np.float64)
    order = np.argsort(_curve(placed, groups.astype(np.int64)))
    placed = placed.take(order, axis=0)
    levels: list[int] = []
    runs, total = len(boxes), 0
    while runs > 1 or not levels:
        levels.append(total)
        runs = (runs + (1 << BITS) - 1) >> BITS
        total += runs
    starts = np.array(levels)
    bounds = _bounds(placed, starts, total)
    return BoxTree(order, groups[order], placed, bounds, starts)


def ranges(tree: BoxTree, groups: Groups) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each of `groups` (M,) starts and ends in the tree, (M,) each."""
    return np.searchsorted(tree.groups, groups, side="left"), np.searchsorted(tree.groups, groups, side="right")


@njit(cache=True)
def _curve(boxes, groups):  # type: ignore[no-untyped-def]
    """Sort keys (N,) of boxes (N, 4): group, then 16 + 16 interleaved bits of the centre."""
    keys = np.empty(len(boxes), dtype=np.int64)
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for i in range(len(keys)):
        x, y = boxes[i, 0] + boxes[i, 2], boxes[i, 1] + boxes[i, 3]
        left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
    step = max(right - left, bottom - top) / 65535
    if step == 0:
        step = 1.0
    for i in range(len(keys)):
        across = _spread(np.int64((boxes[i, 0] + boxes[i, 2] - left) / step))
        down = _spread(np.int64((boxes[i, 1] + boxes[i, 3] - top) / step))
        keys[i] = groups[i] << 32 | down << 1 | across
    return keys


@njit(cache=True)
def _spread(bits):  # type: ignore[no-untyped-def]
    """The lowest 16 bits with a 0 above each."""
    bits = (bits | bits << 8) & 0x00FF00FF
    bits = (bits | bits << 4) & 0x0F0F0F0F
    bits = (bits | bits << 2) & 0x33333333
    return (bits | bits << 1) & 0x55555555


@njit(cache=True)
def _bounds(boxes, levels, runs):  # type: ignore[no-untyped-def]
    """Bounds (runs, 4) of the runs of every level, each from those of the level below."""
    bounds = np.empty((runs, 4))
    below, first, count = boxes, 0, len(boxes)
    for level in range(len(levels)):
        start = levels[level]
        runs_here = (count + (1 << BITS) - 1) >> BITS
        for run in range(runs_here):
            a, b = first + (run << BITS), first + min(count, (run + 1) << BITS)
            x1, y1, x2, y2 = below[a, 0], below[a, 1], below[a, 2], below[a, 3]
            for i in range(a + 1, b):
                x1, y1 = min(x1, below[i, 0]), min(y1, below[i, 1])
                x2, y2 = max(x2, below[i, 2]), max(y2, below[i, 3])
            bounds[start + run, 0] = x1
            bounds[start + run, 1] = y1
            bounds[start + run, 2] = x2
            bounds[start + run, 3] = y2
        below, first, count = bounds, start, runs_here
    return bounds


@njit(cache=True)
def near(tree, start, end, x1, y1, x2, y2, iou, found):  # type: ignore[no-untyped-def]
    """Writes to `found` which of start..end in the tree can have at least `iou` with a box; returns how many.

    Two boxes share no more of either side than of their union, so both must share `iou` of this one's sides.
    """
    slack = 1e-6 * iou  # rounding must not cost a box whose IoU is `iou` itself
    wide, high = (iou - slack) * (x2 - x1), (iou - slack) * (y2 - y1)
    right, left = x1 + wide, x2 - wide  # what a box that is found reaches at least
    bottom, top = y1 + high, y2 - high
    boxes, bounds, levels = tree.boxes, tree.bounds, tree.levels
    highest = 0
    while end - start >> BITS * (highest + 2):
        highest += 1
    count, level = 0, 0
    place = start >> BITS << BITS
    while place < end:
        run = levels[level] + (place >> BITS * (level + 1))
        if bounds[run, 2] >= right and bounds[run, 0] <= left and bounds[run, 3] >= bottom and bounds[run, 1] <= top:
            if level > 0:
                level -= 1
                continue
            for i in range(max(place, start), min(place + (1 << BITS), end)):
                found[count] = i
                count += (
                    (boxes[i, 2] >= right) & (boxes[i, 0] <= left) & (boxes[i, 3] >= bottom) & (boxes[i, 1] <= top)
                )  # no branch, which could not be predicted
        place += 1 << BITS * (level + 1)
        while level < highest and place >> BITS * (level + 2) << BITS * (level + 2) == place:
            level += 1
    return count
