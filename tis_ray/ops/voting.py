"""What a pool of boxes says about a few chosen ones: their weighted mean, and the best match from each source.

Both ask for the pool's boxes of the same group (a class) that overlap a chosen box by at least an IoU. The pool stands
in a tree that knows which of them are near, so that no matrix is formed.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops import box_tree
from tis_ray.ops.box_tree import near
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.ordering import rising
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
    tree = box_tree.build(pool_boxes, pool_groups)
    starts, ends = box_tree.ranges(tree, groups)
    ranked = rising(pool_boxes[:, 0])  # voters are summed up in this order: another could change the last bit
    ranks = np.empty_like(ranked)
    ranks[ranked] = np.arange(len(ranked))
    moved, means = _vote(
        corners(boxes),
        tree,
        ranks[tree.order],
        corners(pool_boxes[ranked]),
        pool_scores[ranked].astype(np.float64),
        starts,
        ends,
        float(iou_threshold),
    )
    return moved, means


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
    tree = box_tree.build(pool_boxes, pool_groups)
    starts, ends = box_tree.ranges(tree, groups)
    sources = pool_sources[tree.order]
    return np.asarray(_best(corners(boxes), tree, sources, starts, ends, num_sources, float(iou_threshold)))


@njit(cache=True)
def _vote(boxes, tree, ranks, ranked, scores, starts, ends, threshold):  # type: ignore[no-untyped-def]
    """Moved boxes (N, 4) and mean scores (N,).

    `ranks` (M,) says where the boxes of the tree stand in `ranked` (4, M) and `scores` (M,), the order of summing up.
    """
    x1, y1, x2, y2 = ranked[0], ranked[1], ranked[2], ranked[3]
    moved = np.empty((boxes.shape[1], 4), dtype=np.float32)
    means = np.empty(boxes.shape[1], dtype=np.float32)
    found = np.empty(len(scores), dtype=np.int64)
    for i in range(boxes.shape[1]):
        a1, b1, a2, b2 = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i]
        voters = 0
        for k in range(near(tree, starts[i], ends[i], a1, b1, a2, b2, threshold, found)):
            j = ranks[found[k]]
            if iou_of(a1, b1, a2, b2, x1[j], y1[j], x2[j], y2[j]) >= threshold:
                found[voters] = j
                voters += 1
        found[:voters].sort()
        total, sum1, sum2, sum3, sum4 = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(voters):
            j = found[k]
            score = scores[j]
            total += score
            sum1 += score * x1[j]
            sum2 += score * y1[j]
            sum3 += score * x2[j]
            sum4 += score * y2[j]
        means[i] = total / voters if total > 0 else np.nan
        moved[i, 0] = sum1 / total if total > 0 else a1
        moved[i, 1] = sum2 / total if total > 0 else b1
        moved[i, 2] = sum3 / total if total > 0 else a2
        moved[i, 3] = sum4 / total if total > 0 else b2
    return moved, means


@njit(cache=True)
def _best(boxes, tree, sources, starts, ends, num_sources, threshold):  # type: ignore[no-untyped-def]
    others = tree.boxes
    best = np.full((boxes.shape[1], num_sources), -1, dtype=np.int64)
    highest, found = np.empty(num_sources), np.empty_like(tree.order)
    for i in range(boxes.shape[1]):
        a1, b1, a2, b2 = boxes[0, i], boxes[1, i], boxes[2, i], boxes[3, i]
        for k in range(near(tree, starts[i], ends[i], a1, b1, a2, b2, threshold, found)):
            j = found[k]
            iou = iou_of(a1, b1, a2, b2, others[j, 0], others[j, 1], others[j, 2], others[j, 3])
            if iou < threshold:
                continue
            source, position = sources[j], tree.order[j]
            rival = best[i, source]
            if rival < 0 or iou > highest[source] or (iou == highest[source] and position < rival):
                best[i, source] = position
                highest[source] = iou
    return best
