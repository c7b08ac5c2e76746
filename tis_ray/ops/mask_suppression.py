"""Suppression by the IoU of masks as runs, hard and soft: what overlaps a better mask is dropped or loses score.

Works within groups (a class, or all masks): masks of different groups do not see each other. Masks are looked up by
their left edges, and two are compared only where their bounds and areas leave an IoU that matters possible.
"""

import heapq
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.ordering import falling
from tis_ray.ops.run_columns import Columns, lay_out, shared_of_extras, shared_of_firsts
from tis_ray.ops.runs import Runs

Groups = NDArray[np.int32]  # (N,)

_HARD, _LINEAR, _GAUSSIAN = 0, 1, 2  # ways to suppress


def mask_nms_keep(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float
) -> NDArray[np.int64]:
    """Positions (K,) of the masks that hard suppression keeps, by descending score, then ascending.

    A mask is dropped where its IoU with a kept one that precedes it (higher score, or the same and further to the
    front) is greater than `iou_threshold`, and where it has no pixel.
    """
    ranked = falling(scores)
    kept = _decayed(runs, scores, groups, ranked, _HARD, iou_threshold=iou_threshold) >= 0
    return ranked[kept[ranked]]


def mask_soft_nms_linear(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, *, iou_threshold: float, min_score: float
) -> NDArray[np.float32]:
    """Scores (N,) decayed by `1 - IoU` where the IoU is greater than `iou_threshold`; see `_suppress`."""
    return _decayed(runs, scores, groups, falling(scores), _LINEAR, iou_threshold=iou_threshold, min_score=min_score)


def mask_soft_nms_gaussian(
    runs: Runs, scores: NDArray[np.float32], groups: Groups, *, sigma: float, min_score: float
) -> NDArray[np.float32]:
    """Scores (N,) decayed by `exp(-IoU^2 / sigma)` for every overlap; see `_suppress`."""
    return _decayed(runs, scores, groups, falling(scores), _GAUSSIAN, sigma=sigma, min_score=min_score)


def _decayed(
    runs: Runs,
    scores: NDArray[np.float32],
    groups: Groups,
    ranked: NDArray[np.int64],
    decay: int,
    *,
    iou_threshold: float = 0.0,
    sigma: float = 1.0,
    min_score: float = 0.0,
) -> NDArray[np.float32]:
    return np.asarray(
        _lay_out_and_suppress(
            np.ascontiguousarray(runs.spans),
            runs.offsets,
            (runs.height, runs.width),
            scores,
            groups,
            ranked,
            decay,
            float(iou_threshold),
            float(sigma),
            float(np.float32(min_score)),  # a score that equals it in float32 stays
        )
    )


class _Scene(NamedTuple):
    """The masks that have pixels, K of them, ordered by group and left edge."""

    columns: Columns  # of all masks
    order: NDArray[np.int64]  # (K,) positions in `columns`
    frames: NDArray[np.int64]  # (4, K) x1, y1, x2, y2
    areas: NDArray[np.int64]  # (K,)
    firsts: NDArray[np.int64]  # (K,) from..to: the masks of the same group whose columns may meet its own
    lasts: NDArray[np.int64]  # (K,)


@njit(cache=True)
def _lay_out_and_suppress(  # type: ignore[no-untyped-def]
    spans, offsets, image_hw, scores, groups, ranked, decay, threshold, sigma, min_score
):
    """One call for it all: each that returns to Python costs as much as hundreds of comparisons."""
    scene = _arrange(lay_out(spans, offsets, image_hw[0]), groups, image_hw[1])
    return _suppress(scene, scores.astype(np.float64), ranked, decay, threshold, sigma, min_score)


@njit(cache=True)
def _arrange(columns, groups, width):  # type: ignore[no-untyped-def]
    order = np.flatnonzero(columns.areas)
    shifts = groups[order].astype(np.int64) * (width + 1)  # groups side by side, so that one search serves them all
    by_left = np.argsort(columns.frames[order, 0] + shifts, kind="quicksort")
    order, shifts = order[by_left], shifts[by_left]
    frames = columns.frames[order].T.copy()
    left, right = frames[0] + shifts, frames[2] + shifts
    firsts, first, reach = np.empty_like(order), 0, right[:1].copy()  # reach: the rightmost edge up to `first`
    for k in range(len(order)):
        while reach[0] <= left[k]:
            first += 1
            reach[0] = max(reach[0], right[first])
        firsts[k] = first
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
    return _iou(min(min(area, other_area), width * height), area + other_area) > threshold


@njit(cache=True)
def _iou(shared, both):  # type: ignore[no-untyped-def]
    """IoU of two masks that share so many pixels, and whose areas make `both`; grows with `shared`, rounded too."""
    return shared / (both - shared)


@njit(cache=True)
def _suppress(scene, given, ranked, decay, threshold, sigma, min_score):  # type: ignore[no-untyped-def]
    """Decayed scores, float32 (N,), of masks with the scores `given`; -1 of those that are dropped or empty.

    The mask of the highest decayed score (of equals, the first that was given) takes its score and suppresses the rest
    of its group, and so on until none is left: `_HARD` drops them, the others decay them and drop those below
    `min_score`. Where scores do not change, masks are taken as they rank, else from a heap. It may hold a score from
    before a decay: one that comes up is put back with what has become of it.

    The scene's fields are read ahead of the loops: each read counts references, and takes as long as comparing two
    small masks does. The spans that follow the first of their column are compared only where the first ones alone do
    not settle it: what two masks share is no less than that of their first spans, and no more than with all the others.
    """
    columns, order, areas, firsts, lasts = scene.columns, scene.order, scene.areas, scene.firsts, scene.lasts
    x1, y1, x2, y2 = scene.frames[0], scene.frames[1], scene.frames[2], scene.frames[3]
    bases, tops, bottoms, height = columns.bases, columns.tops, columns.bottoms, columns.height
    extras, extra_offsets, extra_areas = columns.extras, columns.extra_offsets, columns.extra_areas
    result, scores = np.full(len(given), -1.0, dtype=np.float32), given[order]
    settled = scores < min_score
    rank = _places(order, ranked)
    to_take = len(rank) if decay == _HARD else 0
    heap = [(-scores[k], order[k], k) for k in rank[to_take:] if not settled[k]]  # in order, which is a heap already
    taken = 0
    while taken < to_take or len(heap) > 0:
        if decay == _HARD:
            k = rank[taken]
            taken += 1
        else:
            negative, position, k = heapq.heappop(heap)
            if not settled[k] and -negative != scores[k]:
                heapq.heappush(heap, (-scores[k], position, k))
                continue
        if settled[k]:
            continue
        i, settled[k] = order[k], True
        result[i] = scores[k]
        for m in range(firsts[k], lasts[k]):
            if settled[m]:
                continue
            if not _may_exceed(x1[k], y1[k], x2[k], y2[k], areas[k], x1[m], y1[m], x2[m], y2[m], areas[m], threshold):
                continue
            j, low, high = order[m], max(x1[k], x1[m]), min(x2[k], x2[m])
            shared = shared_of_firsts(tops, bottoms, bases[i] + low, bases[j] + low, high - low)
            both, rest = areas[k] + areas[m], extra_areas[i] + extra_areas[j]
            most = min(min(areas[k], areas[m]), shared + rest)
            enough = decay == _HARD and _iou(shared, both) > threshold
            if rest > 0 and not enough and _iou(most, both) > threshold:
                shared += shared_of_extras(bases, tops, bottoms, extras, extra_offsets, height, i, j, low, high)
            iou = _iou(shared, both)
            if iou > threshold:
                scores[m] = _lowered(scores[m], iou, decay, sigma)
                settled[m] = scores[m] < min_score
    return result


@njit(cache=True)
def _places(order, ranked):  # type: ignore[no-untyped-def]
    """Places in `order` (K,) of the positions in `ranked` (N,) that are there, as they rank."""
    places = np.full(len(ranked), -1)
    places[order] = np.arange(len(order))
    places = places[ranked]
    return places[places >= 0]


@njit(cache=True)
def _lowered(score, iou, decay, sigma):  # type: ignore[no-untyped-def]
    if decay == _LINEAR:
        return score * (1 - iou)
    if decay == _GAUSSIAN:
        return score * np.exp(-iou * iou / sigma)
    return -1.0
