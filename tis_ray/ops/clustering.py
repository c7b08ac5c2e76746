"""Boxes gathered into clusters, each of which becomes one box: the loops of weighted boxes fusion and of NMW.

Every box, by descending score, joins the cluster of its group (a class, or all boxes) whose box it overlaps most, or
opens a cluster. In large groups the clusters' boxes stand in grids, one for each octave of size and hashed, so that a
box looks at those few that can reach the IoU; a cluster changes its cell only when its box leaves it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes
from tis_ray.ops.ordering import falling
from tis_ray.ops.overlaps import Groups, corners, iou_of

_SCAN = 32  # up to so many clusters it is faster to look at all of them
_SLACK = 1e-6  # of a box's sides: rounding must not cost a box whose IoU is just above the threshold
_SUMS, _WEIGHT = 4, 8  # columns of a cluster's state


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """K clusters of N boxes, of which each belongs to one; by group, then in the order in which they were opened.

    boxes:   float32 (K, 4) the weighted mean of each cluster's boxes
    weights: float64 (K,) the sum of the weights that went into it
    heads:   int64 (K,) position of each cluster's box of highest score, the first of equals
    members: int64 (N,) the number of each box's cluster
    ranked:  int64 (N,) positions of the boxes, those of one group by descending score, equal scores as they came
    """

    boxes: Boxes
    weights: NDArray[np.float64]
    heads: NDArray[np.int64]
    members: NDArray[np.int64]
    ranked: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.heads)

    def best_among(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Position (K,) of each cluster's box of highest score among the `chosen` (N,); its head where none is."""
        best = self.heads.copy()
        rising = self.ranked[::-1]
        rising = rising[chosen[rising]]
        best[self.members[rising]] = rising  # of several the last stays, which is the best
        return best


def around_means(boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float) -> Clusters:
    """Clusters whose box is the mean, by score, of their boxes so far, and moves with every box that joins.

    A box of (N, 4) joins the cluster of its group with which it has the highest IoU, if that is greater than
    `iou_threshold`, and of equals the one that was opened first. Sums are taken in float64 in the order of joining.
    A cluster whose scores add up to 0 keeps its first box; a box without area stays by itself.
    """
    return _clusters(boxes, scores, groups, iou_threshold, moving=True)


def around_heads(boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float) -> Clusters:
    """Clusters that boxes join by their IoU with the cluster's first box, its head.

    The mean is weighted by score times IoU with the head, 1 for the head itself. All else is as in `around_means`.
    """
    return _clusters(boxes, scores, groups, iou_threshold, moving=False)


def _clusters(
    boxes: Boxes, scores: NDArray[np.float32], groups: Groups, iou_threshold: float, *, moving: bool
) -> Clusters:
    ranked = _by_group_and_score(scores, groups)
    ordered = groups[ranked]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [len(boxes) > 0]]))
    state, heads, members = _gather(
        corners(boxes[ranked]), scores[ranked].astype(np.float64), ranked, starts, float(iou_threshold), moving
    )
    return Clusters(state[:, :4].astype(np.float32), state[:, _WEIGHT].copy(), heads, members, ranked)


def _by_group_and_score(scores: NDArray[np.float32], groups: Groups) -> NDArray[np.int64]:
    """Positions (N,) by group, then by descending score, equal ones as they come."""
    ranked = falling(scores)
    keys = groups[ranked].astype(np.int64) << 32 | np.arange(len(scores))
    keys.sort()
    return np.asarray(ranked[keys & 0xFFFFFFFF])


@njit(cache=True)
def _gather(boxes, scores, ranked, starts, threshold, moving):  # type: ignore[no-untyped-def]
    """State, heads and members of the clusters of `boxes` (4, N), sorted by group and then by rank.

    A row of the state has the box that others are compared with, the weighted sums of the corners, and the weight: side
    by side, since what limits the loop where there are many clusters is how often it waits for memory.
    """
    n = len(scores)
    state = np.empty((n, 9))
    heads, members = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    grid, following, cells = np.empty(2 * n, dtype=np.int32), np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    count = 0
    for group in range(len(starts) - 1):
        first = count
        size = starts[group + 1] - starts[group]
        mask = _clear(grid, size) if size > _SCAN else -1
        low, high = 1 << 20, -(1 << 20)  # the levels at which the group has clusters
        for i in range(starts[group], starts[group + 1]):
            x1, y1, x2, y2 = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i]
            flat = x2 <= x1 or y2 <= y1
            k, iou = -1, 1.0
            if not flat and count - first > _SCAN:
                k, iou = _search(x1, y1, x2, y2, state, first, count, grid, following, mask, low, high, threshold)
            elif not flat:
                k, iou = _scan(x1, y1, x2, y2, state, first, count, threshold)
            opens = k < 0
            if opens:
                k, count = count, count + 1
                heads[k] = ranked[i]
                state[k, 0], state[k, 1], state[k, 2], state[k, 3] = x1, y1, x2, y2
                state[k, _SUMS:] = 0
            members[ranked[i]] = k
            _add(state, k, x1, y1, x2, y2, scores[i] if moving or opens else scores[i] * iou)
            if moving and not opens:
                _move(state, k)
            if mask >= 0 and not flat and (opens or moving):
                level = _enter(k, opens, state, grid, following, cells, mask)
                low, high = min(low, level), max(high, level)
    if not moving:
        for k in range(count):
            _move(state, k)
    return state[:count], heads[:count], members


@njit(cache=True)
def _add(state, k, x1, y1, x2, y2, weight):  # type: ignore[no-untyped-def]
    state[k, _SUMS] += weight * x1
    state[k, _SUMS + 1] += weight * y1
    state[k, _SUMS + 2] += weight * x2
    state[k, _SUMS + 3] += weight * y2
    state[k, _WEIGHT] += weight


@njit(cache=True)
def _move(state, k):  # type: ignore[no-untyped-def]
    """Put the box of cluster k at the mean, if there is weight."""
    if state[k, _WEIGHT] > 0:
        for side in range(4):
            state[k, side] = state[k, _SUMS + side] / state[k, _WEIGHT]


@njit(cache=True)
def _scan(x1, y1, x2, y2, state, first, count, threshold):  # type: ignore[no-untyped-def]
    """The cluster of first..count with the highest IoU above the threshold, the first of equals, and the IoU."""
    best, highest = -1, threshold
    for k in range(first, count):
        iou = iou_of(x1, y1, x2, y2, state[k, 0], state[k, 1], state[k, 2], state[k, 3])
        if iou > highest:
            best, highest = k, iou
    return best, highest


@njit(cache=True)
def _search(x1, y1, x2, y2, state, first, count, grid, following, mask, low, high, threshold):  # type: ignore[no-untyped-def]
    """The same as `_scan` from the cells that can hold such a cluster; from all clusters where the cells are more."""
    width, height = x2 - x1, y2 - y1
    longer = max(width, height)
    if threshold > _SLACK:  # else boxes of any size will do
        low = max(low, _level(longer * threshold * (1 - _SLACK)))
        high = min(high, _level(longer / threshold * (1 + _SLACK)))
    best, highest, looked = -1, threshold, 0
    for level in range(low, high + 1):
        cell = math.ldexp(1.0, level)
        reach_x, reach_y = _reach(width, cell, threshold), _reach(height, cell, threshold)
        u, v = (x1 + x2) / 2, (y1 + y2) / 2
        left, right = math.floor((u - reach_x) / cell), math.floor((u + reach_x) / cell)
        top, bottom = math.floor((v - reach_y) / cell), math.floor((v + reach_y) / cell)
        looked += (right - left + 1) * (bottom - top + 1)
        if looked > count - first:
            return _scan(x1, y1, x2, y2, state, first, count, threshold)
        for column in range(left, right + 1):
            for row in range(top, bottom + 1):
                k = grid[_hashed(level, column, row, mask)]
                while k >= 0:
                    iou = iou_of(x1, y1, x2, y2, state[k, 0], state[k, 1], state[k, 2], state[k, 3])
                    if iou > highest or (iou == highest and best >= 0 and k < best):
                        best, highest = k, iou
                    k = following[k]
    return best, highest


@njit(cache=True)
def _reach(side, limit, threshold):  # type: ignore[no-untyped-def]
    """How far apart the centres of a box of this side and one of at most `limit` can lie and reach the IoU.

    An IoU is at most that of the boxes' sides on either axis.
    """
    other = min(limit, side / threshold) if threshold > 0 else limit
    return (side + other) / 2 * (1 - threshold) / (1 + threshold) + _SLACK * side


@njit(cache=True)
def _enter(k, is_new, state, grid, following, cells, mask):  # type: ignore[no-untyped-def]
    """Put cluster k where its box now lies in the grid, if it does not stand there; the level of that cell."""
    x1, y1, x2, y2 = state[k, 0], state[k, 1], state[k, 2], state[k, 3]
    level = _level(max(x2 - x1, y2 - y1))
    cell = math.ldexp(1.0, level)
    place = _hashed(level, math.floor((x1 + x2) / 2 / cell), math.floor((y1 + y2) / 2 / cell), mask)
    if not is_new:
        if cells[k] == place:
            return level
        if grid[cells[k]] == k:
            grid[cells[k]] = following[k]
        else:
            before = grid[cells[k]]
            while following[before] != k:
                before = following[before]
            following[before] = following[k]
    following[k], grid[place], cells[k] = grid[place], k, place
    return level


@njit(cache=True)
def _level(side):  # type: ignore[no-untyped-def]
    """The octave of a length: 2 ** level is the first power of two above it."""
    return math.frexp(side)[1]


@njit(cache=True)
def _hashed(level, column, row, mask):  # type: ignore[no-untyped-def]
    """Where the chain of a cell begins. Cells may share a chain: what stands there is looked at in vain, not taken."""
    return (np.int64(column) * 73856093 ^ np.int64(row) * 19349663 ^ np.int64(level) * 83492791) & mask


@njit(cache=True)
def _clear(grid, size):  # type: ignore[no-untyped-def]
    """Empty as many chains as the power of two from `size` on; that number less one."""
    length = 1
    while length < size:
        length *= 2
    grid[:length] = -1
    return length - 1
