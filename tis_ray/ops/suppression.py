"""Greedy suppression of overlapping boxes, hard and soft, in time that grows with the boxes that do overlap.

Both take boxes best first and work within groups (a class, or all boxes): boxes of different groups do not see each
other. A tree of the boxes says which others are near; IoUs and decayed scores are computed in float64 in the order
of choice, so the answer is that of the plain double loop, bit for bit.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops import box_tree
from tis_ray.ops.box_tree import near
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.overlaps import Groups, iou_of


def nms_keep(boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float) -> NDArray[np.int64]:
    """Positions (K,) of the boxes that hard suppression keeps, by descending score, then ascending.

    A box is dropped where its IoU with a kept box that precedes it (higher score, or the same and further
    to the front) is greater than `iou_threshold` (0 or more).
    """
    ranked = best_first(scores)
    keep: NDArray[np.bool_] = _nms(box_tree.build(boxes, groups), ranked, float(iou_threshold))
    return ranked[keep]


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


def best_first(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positions (N,) by descending score, equal scores as they come."""
    bits = (np.float32(0) - scores.astype(np.float32, copy=False)).view(np.int32).astype(np.int64)
    bits ^= (bits >> 31) & 0x7FFFFFFF  # whole numbers in the order of the floats
    keys = bits << 32 | np.arange(len(scores))
    keys.sort()  # distinct whole numbers: ten times as fast as a stable sort of floats
    return keys & 0xFFFFFFFF


def _soft(
    boxes: Boxes,
    scores: NDArray[np.float32],
    groups: Groups,
    iou_threshold: float,
    sigma: float,
    min_score: float,
) -> NDArray[np.float32]:
    return np.asarray(
        _soft_nms(
            box_tree.build(boxes, groups),
            best_first(scores),
            scores.astype(np.float64),
            iou_threshold,
            sigma,
            float(np.float32(min_score)),  # a score that equals it in float32 stays
        )
    )


@njit(cache=True)
def _places(tree):  # type: ignore[no-untyped-def]
    """The place in the tree of the box at each position (N,); by place, where its group starts and ends (N,), (N,)."""
    places, starts, ends = np.empty_like(tree.order), np.empty_like(tree.order), np.empty_like(tree.order)
    count = len(places)
    start = 0
    for place in range(count):
        places[tree.order[place]] = place
        if tree.groups[place] != tree.groups[start]:
            start = place
        starts[place] = start
    end = count
    for place in range(count - 1, -1, -1):
        ends[place] = end
        if starts[place] == place:
            end = place
    return places, starts, ends


@njit(cache=True)
def _nms(tree, ranked, threshold):  # type: ignore[no-untyped-def]
    """Whether each rank is kept, (N,)."""
    places, starts, ends = _places(tree)
    x1, y1, x2, y2 = tree.corners[0], tree.corners[1], tree.corners[2], tree.corners[3]
    keep, dropped = np.zeros(len(ranked), dtype=np.bool_), np.zeros(len(ranked), dtype=np.bool_)
    found = np.empty(len(ranked), dtype=np.int64)
    for rank in range(len(ranked)):
        best = places[ranked[rank]]
        if dropped[best]:
            continue
        keep[rank] = True
        a1, b1, a2, b2 = x1[best], y1[best], x2[best], y2[best]
        for k in range(near(tree, starts[best], ends[best], a1, b1, a2, b2, threshold, found)):
            i = found[k]
            if not dropped[i] and iou_of(a1, b1, a2, b2, x1[i], y1[i], x2[i], y2[i]) > threshold:
                dropped[i] = True
    return keep


@njit(cache=True)
def _soft_nms(tree, ranked, scores, threshold, sigma, min_score):  # type: ignore[no-untyped-def]
    """Decayed scores (N,); -1 where one fell below `min_score`.

    The box of the highest decayed score (the first of equals) takes its score and decays the rest of its
    group, and so on until none is left. Linear where `sigma` is 0, else gaussian.

    The heap holds each box with a score it had: as scores only fall, one that is on top and up to date is the highest.
    """
    places, starts, ends = _places(tree)
    order, decayed, result = tree.order, scores[tree.order], np.full(len(ranked), -1.0, dtype=np.float32)
    x1, y1, x2, y2 = tree.corners[0], tree.corners[1], tree.corners[2], tree.corners[3]
    found = np.empty(len(ranked), dtype=np.int64)
    left = decayed >= min_score
    keys, heaps, sizes = np.empty(len(ranked)), np.empty_like(ranked), np.zeros(len(ranked), dtype=np.int64)
    for rank in range(len(ranked)):
        place = places[ranked[rank]]
        if left[place]:
            start = starts[place]
            heaps[start + sizes[start]] = place
            keys[start + sizes[start]] = decayed[place]
            sizes[start] += 1
    start = 0
    while start < len(ranked):
        end = ends[start]
        heap, key, size = heaps[start:end], keys[start:end], sizes[start]
        while size > 0:
            best = heap[0]
            if decayed[best] < key[0] and left[best]:
                _sink(key, heap, order, size, decayed[best], best)
                continue
            size -= 1
            _sink(key, heap, order, size, key[size], heap[size])
            if not left[best]:
                continue
            left[best] = False
            result[order[best]] = decayed[best]
            a1, b1, a2, b2 = x1[best], y1[best], x2[best], y2[best]
            for k in range(near(tree, start, end, a1, b1, a2, b2, threshold, found)):
                i = found[k]
                if not left[i]:
                    continue
                iou = iou_of(a1, b1, a2, b2, x1[i], y1[i], x2[i], y2[i])
                if iou > threshold:
                    decayed[i] *= np.exp(-iou * iou / sigma) if sigma > 0 else 1 - iou
                    left[i] = decayed[i] >= min_score
        start = end
    return result


@njit(cache=True)
def _sink(keys, heap, order, size, key, place):  # type: ignore[no-untyped-def]
    """Puts a box in place of the one on top of the heap; the lower position is above of equal keys."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and (
            keys[child + 1] > keys[child]
            or (keys[child + 1] == keys[child] and order[heap[child + 1]] < order[heap[child]])
        ):
            child += 1
        if keys[child] < key or (keys[child] == key and order[heap[child]] > order[place]):
            break
        keys[at], heap[at] = keys[child], heap[child]
        at = child
    keys[at], heap[at] = key, place
