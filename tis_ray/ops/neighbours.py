"""Which boxes of a pool overlap each of a few chosen ones enough: all of them, as rows of positions."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops import box_tree
from tis_ray.ops.box_tree import near
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.overlaps import Groups, corners, iou_of


def overlapping(
    boxes: Boxes, groups: Groups, pool_boxes: Boxes, pool_groups: Groups, *, iou_threshold: float
) -> NDArray[np.int64]:
    """Rows (N, V) of positions in the pool (M, 4), as `listed`, of all boxes that overlap each of `boxes` (N, 4).

    Only those of the same group whose IoU is `iou_threshold` (above 0) or more.
    """
    tree = box_tree.build(boxes, groups)
    starts, ends = box_tree.ranges(tree, pool_groups)
    pairs = _pairs(tree, corners(boxes), corners(pool_boxes), starts, ends, float(iou_threshold))
    return listed(pairs[0], pairs[1], count=len(boxes))


def listed(rows: NDArray[np.int64], positions: NDArray[np.int64], *, count: int) -> NDArray[np.int64]:
    """(count, V) the `positions` (K,) of each of the `rows` (K,), ascending, then -1; V is the most that a row has."""
    order = np.lexsort((positions, rows))
    rows = rows[order]
    lengths = np.bincount(rows, minlength=count)
    result = np.full((count, lengths.max(initial=0)), -1, dtype=np.int64)
    result[rows, np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]] = positions[order]
    return result


@njit(cache=True)
def _pairs(tree, boxes, pool, starts, ends, threshold):  # type: ignore[no-untyped-def]
    """(2, K) which of `boxes` (4, N) and which of the pool (4, M) overlap enough."""
    x1, y1, x2, y2 = boxes[0], boxes[1], boxes[2], boxes[3]
    pairs = np.empty((2, pool.shape[1]), dtype=np.int64)
    found = np.empty(len(x1), dtype=np.int64)
    count = 0
    for j in range(pool.shape[1]):
        a1, b1, a2, b2 = pool[0, j], pool[1, j], pool[2, j], pool[3, j]
        reached = near(tree, starts[j], ends[j], a1, b1, a2, b2, threshold, found)
        if count + reached > pairs.shape[1]:
            pairs = np.concatenate((pairs, np.empty((2, pairs.shape[1] + reached), dtype=np.int64)), axis=1)
        for k in range(reached):
            i = tree.order[found[k]]
            if iou_of(a1, b1, a2, b2, x1[i], y1[i], x2[i], y2[i]) >= threshold:
                pairs[0, count], pairs[1, count] = i, j
                count += 1
    return pairs[:, :count]
