"""Overlap of boxes (N, 4) xyxy: IoU, and which boxes others cover.

IoUs are computed in float64 from the float32 corners, so that two whole-pixel boxes whose IoU is exactly the
threshold, as 8/10 and 0.8, compare equal to it. Two boxes without area have IoU 0.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes

Groups = NDArray[np.int32]  # (N,)


def pairwise_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """IoU of every box of `a` (N, 4) with every box of `b` (M, 4), float32 (N, M)."""
    return np.asarray(_pairwise(corners(a), corners(b)))


def is_covered(
    boxes: Boxes,
    groups: Groups,
    parts: NDArray[np.int64],
    others: Boxes,
    other_groups: Groups,
    other_parts: NDArray[np.int64],
    *,
    share: float,
) -> NDArray[np.bool_]:
    """Which of the boxes (N, 4) lie with at least `share` of their area under one of `others` (M, 4), (N,).

    Only a box of the same group counts, and only one of another part.
    """
    return np.asarray(
        _covered(corners(boxes), corners(others), groups, other_groups, parts, other_parts, float(share)),
    )


def corners(boxes: Boxes) -> NDArray[np.float64]:
    """x1, y1, x2, y2 as the rows of a (4, N) array, which the loops below read fastest."""
    return np.ascontiguousarray(boxes.T, dtype=np.float64)


@njit(cache=True)
def iou_of(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2):  # type: ignore[no-untyped-def]
    """IoU of two boxes; numbers rather than rows, whose reference counts would cost twenty times the sum."""
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared)


@njit(cache=True)
def _pairwise(a, b):  # type: ignore[no-untyped-def]
    ious = np.empty((a.shape[1], b.shape[1]), dtype=np.float32)
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            ious[i, j] = iou_of(a[0, i], a[1, i], a[2, i], a[3, i], b[0, j], b[1, j], b[2, j], b[3, j])
    return ious


@njit(cache=True)
def _covered(boxes, others, groups, other_groups, parts, other_parts, share):  # type: ignore[no-untyped-def]
    covered = np.zeros(boxes.shape[1], dtype=np.bool_)
    for i in range(boxes.shape[1]):
        needed = share * (boxes[2, i] - boxes[0, i]) * (boxes[3, i] - boxes[1, i])
        for j in range(others.shape[1]):
            if groups[i] != other_groups[j] or parts[i] == other_parts[j]:
                continue
            width = min(boxes[2, i], others[2, j]) - max(boxes[0, i], others[0, j])
            height = min(boxes[3, i], others[3, j]) - max(boxes[1, i], others[1, j])
            if width > 0 and height > 0 and width * height >= needed:
                covered[i] = True
                break
    return covered
