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
from tis_ray.ops.overlaps import Groups, corners

BITS = 3  # of the positions within a run: 8 boxes to a run, 8 runs to one of the next level


class BoxTree(NamedTuple):
    """N sorted boxes and the bounds of their runs; the kernels take it as it is, numbers and arrays alone."""

    order: NDArray[np.int64]  # (N,) position of each among the boxes it was built of
    groups: Groups  # (N,) ascending
    corners: NDArray[np.float64]  # (4, N)
    bounds: NDArray[np.float64]  # (4, runs) of every level, the runs of 8 boxes first
    levels: NDArray[np.int64]  # (levels,) where the runs of each begin in `bounds`


def build(boxes: Boxes, groups: Groups) -> BoxTree:
    """The tree of boxes (N, 4) that lie in `groups` (N,)."""
    unsorted = corners(boxes)
    order = np.argsort(_curve(unsorted, groups))
    placed = unsorted[:, order]
    levels: list[int] = []
    runs, total = len(boxes), 0
    while runs > 1 or not levels:
        levels.append(total)
        runs = (runs + (1 << BITS) - 1) >> BITS
        total += runs
    starts = np.array(levels)
    bounds = _bounds(placed, starts, total)
    return BoxTree(order, groups[order], placed, bounds, starts)


@njit(cache=True)
def _curve(boxes, groups):  # type: ignore[no-untyped-def]
    """Sort keys (N,) of boxes (4, N): group, then 16 + 16 interleaved bits of the centre."""
    keys = np.empty(boxes.shape[1], dtype=np.int64)
    if len(keys) == 0:
        return keys
    x, y = boxes[0] + boxes[2], boxes[1] + boxes[3]
    left, top = x.min(), y.min()
    step = max(x.max() - left, y.max() - top) / 65535
    if step == 0:
        step = 1.0
    for i in range(len(keys)):
        code = np.int64(0)
        across, down = np.int64((x[i] - left) / step), np.int64((y[i] - top) / step)
        across = (across | across << 8) & 0x00FF00FF
        across = (across | across << 4) & 0x0F0F0F0F
        across = (across | across << 2) & 0x33333333
        across = (across | across << 1) & 0x55555555
        down = (down | down << 8) & 0x00FF00FF
        down = (down | down << 4) & 0x0F0F0F0F
        down = (down | down << 2) & 0x33333333
        down = (down | down << 1) & 0x55555555
        code = across | down << 1
        keys[i] = np.int64(groups[i]) << 32 | code
    return keys


@njit(cache=True)
def _bounds(boxes, levels, runs):  # type: ignore[no-untyped-def]
    """Bounds (4, runs) of the runs of every level, each from those of the level below."""
    bounds = np.empty((4, runs))
    below, first, count = boxes, 0, boxes.shape[1]
    for level in range(len(levels)):
        start = levels[level]
        runs_here = (count + (1 << BITS) - 1) >> BITS
        for run in range(runs_here):
            a, b = first + (run << BITS), first + min(count, (run + 1) << BITS)
            x1, y1, x2, y2 = below[0, a], below[1, a], below[2, a], below[3, a]
            for i in range(a + 1, b):
                x1, y1 = min(x1, below[0, i]), min(y1, below[1, i])
                x2, y2 = max(x2, below[2, i]), max(y2, below[3, i])
            bounds[0, start + run] = x1
            bounds[1, start + run] = y1
            bounds[2, start + run] = x2
            bounds[3, start + run] = y2
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
    corners, bounds, levels = tree.corners, tree.bounds, tree.levels
    highest = 0
    while end - start >> BITS * (highest + 2):
        highest += 1
    count, level = 0, 0
    place = start >> BITS << BITS
    while place < end:
        run = levels[level] + (place >> BITS * (level + 1))
        if bounds[2, run] >= right and bounds[0, run] <= left and bounds[3, run] >= bottom and bounds[1, run] <= top:
            if level > 0:
                level -= 1
                continue
            for i in range(max(place, start), min(place + (1 << BITS), end)):
                found[count] = i
                count += (
                    (corners[2, i] >= right)
                    & (corners[0, i] <= left)
                    & (corners[3, i] >= bottom)
                    & (corners[1, i] <= top)
                )  # no branch, which could not be predicted
        place += 1 << BITS * (level + 1)
        while level < highest and place >> BITS * (level + 2) << BITS * (level + 2) == place:
            level += 1
    return count
