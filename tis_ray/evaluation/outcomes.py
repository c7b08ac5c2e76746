"""What became of each detection and each object at one overlap and from one score on: for counts and pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.greedy import NO_PAIR, match, roles_by_class, roles_of_any
from tis_ray.evaluation.overlaps import Overlaps

IOU = 0.5
MIN_SCORE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Of N detections and M objects, both in the order of `Overlaps`.

    objects: int64 (N,) the object that each detection got, crowds among them, or -1
    ious:    float64 (N,) and the overlap with it, 0 without one
    hits:    bool (N,) found an object
    false:   bool (N,) found nothing; the others are neither: too weak, on a crowd, or not to be judged
    found:   bool (M,) some detection's hit
    missed:  bool (M,) not found; crowds are neither
    """

    objects: NDArray[np.int64]
    ious: NDArray[np.float64]
    hits: NDArray[np.bool_]
    false: NDArray[np.bool_]
    found: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def outcomes(overlaps: Overlaps, *, iou: float = IOU, min_score: float = MIN_SCORE, by_class: bool = True) -> Outcomes:
    """By descending score each detection of `min_score` or more takes the free object that it overlaps most.

    iou:      the least overlap, from `overlaps.LEAST` on
    by_class: objects of its own class alone, as COCO's metric has it; else of any
    """
    strong = overlaps.scores >= min_score
    roles = (roles_by_class if by_class else roles_of_any)(overlaps, np.zeros(len(overlaps.crowd), dtype=np.bool_))
    roles = np.where(strong[overlaps.detections], roles, NO_PAIR).astype(np.int8)
    matched = match(overlaps, roles, thresholds=(iou,))
    objects, hits = matched.objects[0], matched.hits[0]
    ious = np.zeros(len(objects))
    chosen = overlaps.objects == objects[overlaps.detections]
    ious[overlaps.detections[chosen]] = overlaps.ious[chosen]
    found = np.zeros(len(overlaps.crowd), dtype=np.bool_)
    found[objects[hits]] = True
    return Outcomes(objects, ious, hits, matched.counted[0] & ~hits & strong, found, ~found & ~overlaps.crowd)
