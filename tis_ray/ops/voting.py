"""What a pool of boxes says about a few chosen ones: who overlaps them, their mean, the best match from each source.

All ask for the pool's boxes of the same group (a class) that overlap a chosen box by at least an IoU. The pool is
sorted by group and left edge, so that only boxes that can reach the IoU are looked at, and no matrix is formed.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes
from tis_ray.ops.overlaps import Groups, corners, iou_of


def vote(
    boxes: Boxes,
    groups: Groups,
    pool_boxes: Boxes,
    pool_scores: NDArray[np.float32],
    pool_groups: Groups,
    *,
    iou_threshold: float,
) -> tuple[Boxes, NDArray[np.float32]]:
    """For each of `boxes` (N, 4) the mean of its voters by score, and the mean of their scores: (N, 4) and (N,).

    Voters are the boxes of the pool (M, 4) in the same group whose IoU is `iou_threshold` (above 0) or more. A box
    whose voters' scores add up to 0, or that has none, stays where it is and has the mean score NaN.
    """
    order, starts, ends = _by_left_edge(pool_boxes, pool_groups, groups)
    moved, means = _vote(
        corners(boxes),
        corners(pool_boxes[order]),
        pool_scores[order].astype(np.float64),
        starts,
        ends,
        float(iou_threshold),
    )
    return moved.astype(np.float32), means.astype(np.float32)


def voters(
    boxes: Boxes, groups: Groups, pool_boxes: Boxes, pool_groups: Groups, *, iou_threshold: float
) -> NDArray[np.int64]:
    """(N, V) positions in the pool of all boxes that overlap each of `boxes` enough, ascending, then -1 to fill up.

    Only boxes of the same group whose IoU is `iou_threshold` (above 0) or more; V is the most that any of them has.
    """
    order, starts, ends = _by_left_edge(pool_boxes, pool_groups, groups)
    rows, found = _voters(corners(boxes), corners(pool_boxes[order]), order, starts, ends, float(iou_threshold))
    return listed(rows, found, count=len(boxes))


def listed(rows: NDArray[np.int64], positions: NDArray[np.int64], *, count: int) -> NDArray[np.int64]:
    """(count, V) the `positions` (K,) of each row, ascending, then -1; V is the most that any row has."""
    order = np.lexsort((positions, rows))
    rows = rows[order]
    lengths = np.bincount(rows, minlength=count)
    result = np.full((count, lengths.max(initial=0)), -1, dtype=np.int64)
    result[rows, np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]] = positions[order]
    return result


def best_of_each_source(
    boxes: Boxes,
    groups: Groups,
    pool_boxes: Boxes,
    pool_groups: Groups,
    pool_sources: NDArray[np.int32],
    *,
    num_sources: int,
    iou_threshold: float,
) -> NDArray[np.int64]:
    """(N, num_sources) position in the pool of the box from each source that overlaps each of `boxes` most, else -1.

    Only boxes of the same group whose IoU is `iou_threshold` (above 0) or more; the first in the pool of equals.
    """
    order, starts, ends = _by_left_edge(pool_boxes, pool_groups, groups)
    return np.asarray(
        _best(
            corners(boxes),
            corners(pool_boxes[order]),
            pool_sources[order],
            order,
            starts,
            ends,
            num_sources,
            float(iou_threshold),
        )
    )


def _by_left_edge(
    pool_boxes: Boxes, pool_groups: Groups, groups: Groups
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pool's order by group, then left edge, and where the group of each chosen box starts and ends in it."""
    order = np.lexsort((pool_boxes[:, 0], pool_groups))  # stable: equal edges stay in the pool's order
    ordered = pool_groups[order]
    return order, np.searchsorted(ordered, groups, side="left"), np.searchsorted(ordered, groups, side="right")


@njit(cache=True)
def _window(left_edges, start, end, x1, x2, threshold):  # type: ignore[no-untyped-def]
    """Positions from..to within start..end whose left edges allow an IoU of `threshold` with a box x1..x2.

    Both widths times the threshold must fit into the shared width, which bounds how far the left edges lie apart.
    """
    width = x2 - x1
    slack = 1e-6 * width + 1e-9  # rounding must not cost a box whose IoU is the threshold itself
    low = x1 - (1 - threshold) / threshold * width - slack
    high = x2 - threshold * width + slack
    edges = left_edges[start:end]
    return start + np.searchsorted(edges, low), start + np.searchsorted(edges, high, side="right")


@njit(cache=True)
def _vote(boxes, pool, scores, starts, ends, threshold):  # type: ignore[no-untyped-def]
    x1, y1, x2, y2 = pool[0], pool[1], pool[2], pool[3]
    moved = np.empty((boxes.shape[1], 4))
    means = np.full(boxes.shape[1], np.nan)
    for i in range(boxes.shape[1]):
        a1, b1, a2, b2 = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i]
        total, voters = 0.0, 0
        sum1, sum2, sum3, sum4 = 0.0, 0.0, 0.0, 0.0
        first, last = _window(x1, starts[i], ends[i], a1, a2, threshold)
        for j in range(first, last):
            if iou_of(a1, b1, a2, b2, x1[j], y1[j], x2[j], y2[j]) >= threshold:
                score = scores[j]
                total += score
                voters += 1
                sum1 += score * x1[j]
                sum2 += score * y1[j]
                sum3 += score * x2[j]
                sum4 += score * y2[j]
        if total > 0:
            moved[i] = sum1 / total, sum2 / total, sum3 / total, sum4 / total
            means[i] = total / voters
        else:
            moved[i] = a1, b1, a2, b2
    return moved, means


@njit(cache=True)
def _voters(boxes, pool, order, starts, ends, threshold):  # type: ignore[no-untyped-def]
    """(K,) and (K,): which of `boxes` (4, N), and the position in the pool of a box that overlaps it enough."""
    x1, y1, x2, y2 = pool[0], pool[1], pool[2], pool[3]
    pairs = np.empty((2, len(order)), dtype=np.int64)
    count = 0
    for i in range(boxes.shape[1]):
        a1, b1, a2, b2 = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i]
        first, last = _window(x1, starts[i], ends[i], a1, a2, threshold)
        if count + last - first > pairs.shape[1]:
            pairs = np.concatenate((pairs, np.empty((2, pairs.shape[1] + last - first), dtype=np.int64)), axis=1)
        for j in range(first, last):
            if iou_of(a1, b1, a2, b2, x1[j], y1[j], x2[j], y2[j]) >= threshold:
                pairs[0, count], pairs[1, count] = i, order[j]
                count += 1
    return pairs[0, :count], pairs[1, :count]


@njit(cache=True)
def _best(boxes, pool, sources, order, starts, ends, num_sources, threshold):  # type: ignore[no-untyped-def]
    x1, y1, x2, y2 = pool[0], pool[1], pool[2], pool[3]
    best = np.full((boxes.shape[1], num_sources), -1, dtype=np.int64)
    highest = np.empty(num_sources)
    for i in range(boxes.shape[1]):
        a1, b1, a2, b2 = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i]
        first, last = _window(x1, starts[i], ends[i], a1, a2, threshold)
        for j in range(first, last):
            iou = iou_of(a1, b1, a2, b2, x1[j], y1[j], x2[j], y2[j])
            if iou < threshold:
                continue
            source, position = sources[j], order[j]
            rival = best[i, source]
            if rival < 0 or iou > highest[source] or (iou == highest[source] and position < rival):
                best[i, source] = position
                highest[source] = iou
    return best
