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
from tis_ray.ops.ordering import falling
from tis_ray.ops.overlaps import Groups, iou_of

FEW = 128  # up to so many boxes it is faster to look at all of them than to ask a tree and keep a heap


def nms_keep(boxes: Boxes, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float) -> NDArray[np.int64]:
    """Positions (K,) of the boxes that hard suppression keeps, by descending score, then ascending.

    A box is dropped where its IoU with a kept box that precedes it (higher score, or the same and further
    to the front) is greater than `iou_threshold` (0 or more).
    """
    ranked = falling(scores)
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


def _soft(
    boxes: Boxes,
    scores: NDArray[np.float32],
    groups: Groups,
    iou_threshold: float,
    sigma: float,
    min_score: float,
) -> NDArray[np.float32]:
    tree = box_tree.build(boxes, groups)
    decayed = scores.astype(np.float64)[tree.order]
    lowest = float(np.float32(min_score))  # a score that equals it in float32 stays
    _soft_nms(tree, falling(scores), decayed, iou_threshold, sigma, lowest)
    result = np.empty(len(boxes), dtype=np.float32)
    result[tree.order] = np.where(decayed >= lowest, decayed, -1)
    return result


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
    boxes = tree.boxes
    keep, dropped = np.zeros(len(ranked), dtype=np.bool_), np.zeros(len(ranked), dtype=np.bool_)
    found = np.empty(len(ranked), dtype=np.int64)
    for rank in range(len(ranked)):
        best = places[ranked[rank]]
        if dropped[best]:
            continue
        keep[rank] = True
        a1, b1, a2, b2 = boxes[best, 0], boxes[best, 1], boxes[best, 2], boxes[best, 3]
        for k in range(near(tree, starts[best], ends[best], a1, b1, a2, b2, threshold, found)):
            i = found[k]
            if (
                not dropped[i]
                and iou_of(a1, b1, a2, b2, boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]) > threshold
            ):
                dropped[i] = True
    return keep


@njit(cache=True)
def _soft_nms(tree, ranked, decayed, threshold, sigma, min_score):  # type: ignore[no-untyped-def]
    """Decays the scores (N,) by place in the tree, in place; a box that falls below `min_score` is out.

    The box of the highest decayed score (the first of equals) keeps its score and decays the rest of its
    group, and so on until none is left. Linear where `sigma` is 0, else gaussian.
    """
    places, starts, ends = _places(tree)
    heap, scores, sizes = np.empty_like(ranked), np.empty_like(decayed), np.zeros_like(ranked)
    for position in ranked:  # from the best down, which makes a heap of each group
        place = places[position]
        if decayed[place] >= min_score:
            start = starts[place]
            heap[start + sizes[start]], scores[start + sizes[start]] = position, decayed[place]
            sizes[start] += 1
    left, found = np.ones(len(ranked), dtype=np.bool_), np.empty_like(ranked)
    start = 0
    while start < len(ranked):
        end, size = ends[start], sizes[start]
        if size <= FEW:
            for k in range(size):
                found[k] = places[heap[start + k]]
            _soften_few(tree, found, size, decayed, threshold, sigma, min_score)
        else:
            _soften_many(
                tree, places, heap, scores, start, end, size, left, found, decayed, threshold, sigma, min_score
            )
        start = end


@njit(cache=True)
def _soften_few(tree, left, count, decayed, threshold, sigma, min_score):  # type: ignore[no-untyped-def]
    """Soft suppression among the first `count` places of `left`, the best first, by looking at all of them."""
    boxes, order = tree.boxes, tree.order
    best = 0
    while count > 0:
        chosen, best, remaining = left[best], 0, 0
        highest = -np.inf
        a1, b1, a2, b2 = boxes[chosen, 0], boxes[chosen, 1], boxes[chosen, 2], boxes[chosen, 3]
        for k in range(count):
            i = left[k]
            if i == chosen:
                continue
            iou = iou_of(a1, b1, a2, b2, boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3])
            if iou > threshold:
                decayed[i] *= _factor(iou, sigma)
            score = decayed[i]
            if score >= min_score:
                left[remaining] = i
                if score > highest or (score == highest and order[i] < order[left[best]]):
                    best, highest = remaining, score
                remaining += 1
        count = remaining


@njit(cache=True)
def _soften_many(  # type: ignore[no-untyped-def]
    tree, places, heap, scores, start, end, size, left, found, decayed, threshold, sigma, min_score
):
    """Soft suppression among the places start..end, by a tree and a heap of `size` positions that begins at `start`.

    The heap holds each box with a score that it once had. Scores only fall, so a box on top whose score still is that
    one has the highest; any other goes back with the score it has by now.
    """
    boxes = tree.boxes
    while size > 0:
        best = places[heap[start]]
        stale = left[best] and decayed[best] < scores[start]
        if stale:
            position, score = heap[start], decayed[best]
        else:
            size -= 1
            position, score = heap[start + size], scores[start + size]
        scores[start + size] = -np.inf  # spares a test for the end; the first on top is not stale, so there is room
        at, below = start, start + 1
        while below < start + size:  # down to where it belongs; of equal scores the first position is above
            other = below + 1
            below += (scores[other] > scores[below]) | ((scores[other] == scores[below]) & (heap[other] < heap[below]))
            if (scores[below] < score) | ((scores[below] == score) & (heap[below] > position)):
                break
            heap[at], scores[at] = heap[below], scores[below]
            at, below = below, 2 * below + 1 - start
        heap[at], scores[at] = position, score
        if stale or not left[best]:
            continue
        left[best] = False
        a1, b1, a2, b2 = boxes[best, 0], boxes[best, 1], boxes[best, 2], boxes[best, 3]
        for k in range(near(tree, start, end, a1, b1, a2, b2, threshold, found)):
            i = found[k]
            if not left[i]:
                continue
            iou = iou_of(a1, b1, a2, b2, boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3])
            if iou > threshold:
                decayed[i] *= _factor(iou, sigma)
                left[i] = decayed[i] >= min_score


@njit(cache=True)
def _factor(iou, sigma):  # type: ignore[no-untyped-def]
    return np.exp(-iou * iou / sigma) if sigma > 0 else 1 - iou
