"""Suppression by the IoU of masks as runs, hard and soft: what overlaps a better mask is dropped or loses score.

Works within groups (a class, or all masks): masks of different groups do not see each other. Masks are looked up by
their left edges, and two are compared only where their bounds and areas leave an IoU that matters possible.
"""

import heapq
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.run_columns import Columns, columns_of, shared_pixels
from tis_ray.ops.runs import Runs

Groups = NDArray[np.int32]  # (N,)


def mask_nms_keep(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float
) -> NDArray[np.int64]:
    """Positions (K,) of the masks that hard suppression keeps, by descending score, then ascending.

    A mask is dropped where its IoU with a kept one that precedes it (higher score, or the same and further to the
    front) is greater than `iou_threshold`, and where it has no pixel.
    """
    scene = _arrange(runs, groups)
    rank = np.lexsort((scene.order, -scores[scene.order]))
    kept = np.sort(scene.order[_nms(scene, rank, float(iou_threshold))])
    return kept[np.argsort(-scores[kept], kind="stable")]


def mask_soft_nms_linear(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float, min_score: float
) -> NDArray[np.float32]:
    """Scores (N,) decayed by `1 - IoU` where the IoU is greater than `iou_threshold`; see `_soft_nms`."""
    return _soft(runs, scores, groups, float(iou_threshold), 0.0, min_score)


def mask_soft_nms_gaussian(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, *, sigma: float, min_score: float
) -> NDArray[np.float32]:
    """Scores (N,) decayed by `exp(-IoU^2 / sigma)` for every overlap; see `_soft_nms`."""
    return _soft(runs, scores, groups, 0.0, float(sigma), min_score)


def _soft(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, iou_threshold: float, sigma: float, min_score: float
) -> NDArray[np.float32]:
    scene = _arrange(runs, groups)
    decayed = np.full(len(runs), -1, dtype=np.float32)
    decayed[scene.order] = _soft_nms(
        scene,
        scores[scene.order].astype(np.float64),
        iou_threshold,
        sigma,
        float(np.float32(min_score)),  # a score that equals it in float32 stays
    )
    return decayed


class _Scene(NamedTuple):
    """The masks that have pixels, K of them in G groups, ordered by group and left edge."""

    columns: Columns  # of all masks
    order: NDArray[np.int64]  # (K,) positions in `columns`
    frames: NDArray[np.int64]  # (4, K) x1, y1, x2, y2
    areas: NDArray[np.int64]  # (K,)
    firsts: NDArray[np.int64]  # (K,) from..to: the masks of the same group whose columns may meet its own
    lasts: NDArray[np.int64]  # (K,)


def _arrange(runs: Runs, groups: Groups) -> _Scene:
    columns = columns_of(runs)
    order = np.flatnonzero(columns.areas)
    order = order[np.lexsort((columns.frames[order, 0], groups[order]))]
    frames = np.ascontiguousarray(columns.frames[order].T)
    shift = np.unique(groups[order], return_inverse=True)[1] * (runs.width + 1)  # groups side by side: one search
    left, right = frames[0] + shift, frames[2] + shift
    firsts = np.searchsorted(np.maximum.accumulate(right), left, side="right")
    return _Scene(columns, order, frames, columns.areas[order], firsts, np.searchsorted(left, right))


@njit(cache=True)
def _may_exceed(x1, y1, x2, y2, area, a1, b1, a2, b2, other_area, threshold):  # type: ignore[no-untyped-def]
    """Whether the bounds and areas of two masks allow an IoU greater than `threshold`.

    What the two share is no more than the smaller of them and than what their bounds share. The IoU that would
    give is computed as the IoU itself is, which rounds alike, so that no mask is spared that would not be.
    """
    width, height = min(x2, a2) - max(x1, a1), min(y2, b2) - max(y1, b1)
    if width <= 0 or height <= 0:
        return False
    most = min(min(area, other_area), width * height)
    return most / (area + other_area - most) > threshold


@njit(cache=True)
def _ious(scene, k, settled, threshold, found, ious):  # type: ignore[no-untyped-def]
    """The masks that are not settled whose IoU with mask k is greater than `threshold`, and these IoUs.

    Written to the front of `found` and `ious`; returns how many. One call for all of them, since each call that
    hands arrays on costs as much as a comparison.
    """
    columns, order, areas = scene.columns, scene.order, scene.areas
    x1, y1, x2, y2 = scene.frames[0], scene.frames[1], scene.frames[2], scene.frames[3]
    count = 0
    for m in range(scene.firsts[k], scene.lasts[k]):
        if settled[m]:
            continue
        if not _may_exceed(x1[k], y1[k], x2[k], y2[k], areas[k], x1[m], y1[m], x2[m], y2[m], areas[m], threshold):
            continue
        shared = shared_pixels(columns, order[k], columns, order[m])
        iou = shared / (areas[k] + areas[m] - shared)
        if iou > threshold:
            found[count], ious[count] = m, iou
            count += 1
    return count


@njit(cache=True)
def _nms(scene, rank, threshold):  # type: ignore[no-untyped-def]
    """Whether each mask is kept, in the scene's order; `rank` lists their places there, best first."""
    keep = np.zeros(len(rank), dtype=np.bool_)
    settled = np.zeros(len(rank), dtype=np.bool_)
    found, ious = np.empty(len(rank), dtype=np.int64), np.empty(len(rank))
    for k in rank:
        if not settled[k]:
            keep[k] = settled[k] = True
            for n in range(_ious(scene, k, settled, threshold, found, ious)):
                settled[found[n]] = True
    return keep


@njit(cache=True)
def _soft_nms(scene, scores, threshold, sigma, min_score):  # type: ignore[no-untyped-def]
    """Decayed scores (K,) in the scene's order; -1 where one fell below `min_score`.

    The mask of the highest decayed score (of equals, the first that was given) takes its score and decays the rest of
    its group, and so on until none is left. Linear where `sigma` is 0, else gaussian. The heap may hold scores from
    before a decay: one that comes up is put back with what has become of it.
    """
    result = np.full(len(scores), -1.0, dtype=np.float32)
    scores = scores.copy()
    settled = scores < min_score
    found, ious = np.empty(len(scores), dtype=np.int64), np.empty(len(scores))
    heap = [(-scores[k], scene.order[k], k) for k in range(len(scores)) if not settled[k]]
    heapq.heapify(heap)
    while heap:
        negative, position, k = heapq.heappop(heap)
        if settled[k]:
            continue
        if -negative != scores[k]:
            heapq.heappush(heap, (-scores[k], position, k))
            continue
        result[k] = scores[k]
        settled[k] = True
        for n in range(_ious(scene, k, settled, threshold, found, ious)):
            m = found[n]
            scores[m] *= np.exp(-ious[n] * ious[n] / sigma) if sigma > 0 else 1 - ious[n]
            settled[m] = scores[m] < min_score
    return result
