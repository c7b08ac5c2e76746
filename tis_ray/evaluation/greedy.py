"""COCO's greedy matching over a whole data set at once, and the curves of precision that follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.evaluation.overlaps import LEAST, Overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's overlaps
RECALLS = np.linspace(0.0, 1.0, 101)
SIZES: Mapping[str, tuple[float, float]] = {  # COCO's ranges of areas in px, both ends included
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
NO_PAIR, OBJECT, IGNORED, REGION = 0, 1, 2, 3  # roles of pairs
_SMALLEST = float(np.spacing(1.0))  # COCO adds it, so that nothing is divided by nothing
_MOST = 1 - 1e-10  # an overlap of exactly 1 reaches a threshold of 1 in spite of rounding

Roles = NDArray[np.int8]  # (P,)


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """What became of N detections at T overlaps.

    objects: int64 (T, N) the object that each got, or -1
    hits:    bool (T, N) it found an object that counts
    counted: bool (T, N) hit or false; the others are neither
    """

    objects: NDArray[np.int64]
    hits: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def inside(areas: NDArray[np.float64], size: tuple[float, float]) -> NDArray[np.bool_]:
    """Which areas (px) lie in a range of sizes, both ends included, as COCO has it."""
    return np.asarray((areas >= size[0]) & (areas <= size[1]))


def roles_by_class(overlaps: Overlaps, ignored: NDArray[np.bool_]) -> Roles:
    """The roles of the pairs where detections find objects of their own class; objects `ignored` (M,) do not count."""
    same = overlaps.labels[overlaps.detections] == overlaps.object_labels[overlaps.objects]
    return np.where(same, roles_of_any(overlaps, ignored), NO_PAIR).astype(np.int8)


def roles_of_any(overlaps: Overlaps, ignored: NDArray[np.bool_]) -> Roles:
    """The same where detections find objects of every class."""
    roles = np.where(overlaps.crowd, REGION, np.where(ignored, IGNORED, OBJECT)).astype(np.int8)
    return np.asarray(roles[overlaps.objects])


def ranks(overlaps: Overlaps, *, by_class: bool = True) -> NDArray[np.int64]:
    """Each detection's place (N,) from 0 by score in its image, among those of its class or among all."""
    images = overlaps.images
    groups = images * (int(overlaps.labels.max(initial=0)) + 1) + (overlaps.labels if by_class else 0)
    order = np.argsort(groups, kind="stable")
    _, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) - np.repeat(first, counts)
    return places


def best_first(overlaps: Overlaps, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The detections that count, class by class, each class's by descending score; where each class begins (K + 1,)."""
    keep = np.arange(len(overlaps.rows))
    if overlaps.max_instances is not None:
        keep = keep[ranks(overlaps) < overlaps.max_instances]
    order = keep[np.lexsort((-overlaps.scores[keep], overlaps.labels[keep]))]  # stable: ties by image
    return order, np.searchsorted(overlaps.labels[order], np.arange(num_classes + 1))


def match(
    overlaps: Overlaps,
    roles: Roles,
    *,
    thresholds: Sequence[float] | NDArray[np.float64] = THRESHOLDS,
    size: tuple[float, float] | None = None,
    values: NDArray[np.float64] | None = None,
) -> Matched:
    """The greedy matching: by descending score each detection takes the free object that it overlaps most.

    roles: of each pair: `OBJECT`s are found once, and first; `IGNORED` ones are taken once, too, a `REGION` by as many
           as lie on it, and who gets one of either is neither right nor wrong; `NO_PAIR` cannot be had
    size:  areas in px; what gets nothing and is itself of another size is neither right nor wrong
    values: the overlaps (P,), by default `ious`

    Raises `InputError` for thresholds below `LEAST`: pairs that overlap less are not kept.
    """
    values = overlaps.ious if values is None else values
    limits = np.minimum(np.asarray(thresholds, dtype=np.float64), _MOST)
    if limits.min() < LEAST:
        raise InputError(f"thresholds: expected overlaps of {LEAST} or more; got {limits.min():g}")
    pairs = _greedy(overlaps.pair_offsets, overlaps.objects, values, roles, len(overlaps.crowd), limits)
    got = pairs >= 0
    hits = got & (roles[pairs] == OBJECT) if len(roles) else got
    neither = overlaps.surplus if size is None else overlaps.surplus | ~inside(overlaps.areas, size)
    objects = np.where(got, overlaps.objects[pairs], -1) if len(roles) else pairs
    return Matched(objects, hits, hits | (~got & ~neither))


def positives_of(overlaps: Overlaps, ignored: NDArray[np.bool_], num_classes: int) -> NDArray[np.int64]:
    """How many objects of each class are to be found (K,): neither crowds nor `ignored` (M,)."""
    return np.bincount(overlaps.object_labels[~overlaps.crowd & ~ignored], minlength=num_classes)


def precision_curves(overlaps: Overlaps, matched: Matched, positives: NDArray[np.int64]) -> NDArray[np.float64]:
    """COCO's precision (T, 101, K) at `RECALLS`, NaN for a class of which none of `positives` (K,) is to be found."""
    order, starts = best_first(overlaps, len(positives))
    args = np.ascontiguousarray(matched.hits[:, order]), np.ascontiguousarray(matched.counted[:, order])
    return np.asarray(_precision(*args, starts, positives, RECALLS))


@njit(cache=True)
def _greedy(pair_offsets, objects, values, roles, num_objects, limits):  # type: ignore[no-untyped-def]
    """The pair (T, N) by which each detection gets its object, or -1."""
    chosen = np.full((len(limits), len(pair_offsets) - 1), -1, dtype=np.int64)
    for t in range(len(limits)):
        taken = np.zeros(num_objects, dtype=np.bool_)
        for d in range(len(pair_offsets) - 1):
            best, pair, counts = limits[t], -1, False
            for p in range(pair_offsets[d], pair_offsets[d + 1]):
                role, g = roles[p], objects[p]
                if role == NO_PAIR or (taken[g] and role != REGION) or (counts and role != OBJECT):
                    continue
                if role == OBJECT and not counts and values[p] >= limits[t]:
                    best, counts = limits[t], True  # whatever it overlaps that does not count
                if values[p] >= best:  # of equals the last, as COCO's loop has it
                    best, pair = values[p], p
            if pair >= 0:
                chosen[t, d] = pair
                if roles[pair] != REGION:  # which may be an object to others
                    taken[objects[pair]] = True
    return chosen


@njit(cache=True)
def _precision(hits, counted, starts, positives, recalls):  # type: ignore[no-untyped-def]
    """Detections (T, N) lie class by class, each class's best first; class k begins at `starts[k]`."""
    result = np.zeros((len(hits), len(recalls), len(positives)))
    recall, best = np.empty(hits.shape[1] + 1), np.empty(hits.shape[1] + 1)
    for t in range(len(hits)):
        for k in range(len(positives)):
            if positives[k] <= 0:
                result[t, :, k] = np.nan
                continue
            true, false, count = 0.0, 0.0, starts[k + 1] - starts[k]
            for i in range(count):
                true += hits[t, starts[k] + i]
                false += counted[t, starts[k] + i] and not hits[t, starts[k] + i]
                recall[i] = true / positives[k]
                best[i] = true / (true + false + _SMALLEST)
            for i in range(count - 1, 0, -1):
                best[i - 1] = max(best[i - 1], best[i])
            i = 0
            for r in range(len(recalls)):
                while i < count and recall[i] < recalls[r]:
                    i += 1
                if i == count:
                    break
                result[t, r, k] = best[i]
    return result
