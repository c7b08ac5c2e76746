"""Overlap of boxes (N, 4) xyxy, and the greedy loops that read it without an N x N matrix.

IoUs are computed in float64 from the float32 corners, so that two whole-pixel boxes whose IoU is exactly the
threshold, as 8/10 and 0.8, compare equal to it. Two boxes without area have IoU 0. The greedy loops work
within groups (a class, or all boxes): boxes of different groups do not see each other.
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


def nms_keep(boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float) -> NDArray[np.int64]:
    """Positions (K,) of the boxes that hard suppression keeps, by descending score, then ascending.

    A box is dropped where its IoU with a kept box that precedes it (higher score, or the same and further
    to the front) is greater than `iou_threshold`.
    """
    order = np.lexsort((-scores, groups))  # stable: equal scores stay in order
    keep = _nms(corners(boxes[order]), _starts(groups[order]), float(iou_threshold))
    kept = np.sort(order[keep])
    return kept[np.argsort(-scores[kept], kind="stable")]


def soft_nms_linear(
    boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float, min_score: float
) -> NDArray[np.float32]:
    """Scores (N,) decayed by `1 - IoU` where the IoU is greater than `iou_threshold`; see `_soft_nms`."""
    return _soft(boxes, scores, groups, float(iou_threshold), 0.0, min_score)


def soft_nms_gaussian(
    boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, sigma: float, min_score: float
) -> NDArray[np.float32]:
    """Scores (N,) decayed by `exp(-IoU^2 / sigma)` for every overlap; see `_soft_nms`."""
    return _soft(boxes, scores, groups, 0.0, float(sigma), min_score)


def _soft(
    boxes: Boxes,
    scores: NDArray[np.float32],
    groups: Groups,
    iou_threshold: float,
    sigma: float,
    min_score: float,
) -> NDArray[np.float32]:
    order = np.argsort(groups, kind="stable")
    decayed = np.empty(len(boxes), dtype=np.float32)
    decayed[order] = _soft_nms(
        corners(boxes[order]),
        scores[order].astype(np.float64),
        _starts(groups[order]),
        iou_threshold,
        sigma,
        float(np.float32(min_score)),  # a score that equals it in float32 stays
    )
    return decayed


def _starts(groups: Groups) -> NDArray[np.int64]:
    """Where each run of equal values begins, and the length: (G + 1,) of a sorted array."""
    if len(groups) == 0:
        return np.zeros(1, dtype=np.int64)
    return np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1, [len(groups)]]).astype(np.int64)


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


@njit(cache=True)
def _nms(boxes, starts, threshold):  # type: ignore[no-untyped-def]
    """Whether each of `boxes` (4, N), sorted by group and then by rank, is kept."""
    x1, y1, x2, y2 = boxes[0], boxes[1], boxes[2], boxes[3]
    keep = np.zeros(boxes.shape[1], dtype=np.bool_)
    kept = np.empty(boxes.shape[1], dtype=np.int64)
    for group in range(len(starts) - 1):
        count = 0
        for i in range(starts[group], starts[group + 1]):
            free = True
            for k in range(count):
                j = kept[k]
                if iou_of(x1[i], y1[i], x2[i], y2[i], x1[j], y1[j], x2[j], y2[j]) > threshold:
                    free = False
                    break
            if free:
                keep[i] = True
                kept[count] = i
                count += 1
    return keep


@njit(cache=True)
def _soft_nms(boxes, scores, starts, threshold, sigma, min_score):  # type: ignore[no-untyped-def]
    """Decayed scores (N,) of `boxes` (4, N) sorted by group; -1 where one fell below `min_score`.

    The box of the highest decayed score (the first of equals) takes its score and decays the rest of its
    group, and so on until none is left. Linear where `sigma` is 0, else gaussian.
    """
    x1, y1, x2, y2 = boxes[0], boxes[1], boxes[2], boxes[3]
    result = np.full(len(scores), -1.0, dtype=np.float32)
    scores = scores.copy()
    left = np.empty(len(scores), dtype=np.int64)
    for group in range(len(starts) - 1):
        count, best = 0, -1
        for i in range(starts[group], starts[group + 1]):
            if scores[i] >= min_score:
                left[count] = i
                count += 1
                if best < 0 or scores[i] > scores[best]:
                    best = i
        while best >= 0:
            chosen, best, remaining = best, -1, 0
            result[chosen] = scores[chosen]
            a1, b1, a2, b2 = x1[chosen], y1[chosen], x2[chosen], y2[chosen]
            for k in range(count):
                i = left[k]
                if i == chosen:
                    continue
                iou = iou_of(a1, b1, a2, b2, x1[i], y1[i], x2[i], y2[i])
                if sigma > 0:
                    if iou > 0:
                        scores[i] *= np.exp(-iou * iou / sigma)
                elif iou > threshold:
                    scores[i] *= 1 - iou
                if scores[i] >= min_score:
                    left[remaining] = i
                    remaining += 1
                    if best < 0 or scores[i] > scores[best]:
                        best = i
            count = remaining
    return result
