"""Which detections are hits: COCO's greedy matching of boxes, at one overlap."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.instances import Annotations, Instances
from tis_ray.ops.overlaps import corners, iou_of

_MISS, _HIT, _NEITHER = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What became of N detections.

    hits:    bool (N,) found an object that none before it had found
    counted: bool (N,) hit or miss; the others are neither: they lie on a crowd or a region to ignore, or are misses of
             a class of which nobody looked for every object
    """

    hits: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def match(found: Instances, truth: Annotations, *, iou: float = 0.5) -> Matches:
    """Detections of one image matched to its objects by class, those of each `source` by themselves.

    By descending score, equal ones in their order, each detection takes the free object of its class that it overlaps
    most, if their boxes' IoU is `iou` or more. One that gets none, and of whose box a share of `iou` lies on the box
    of a crowd of its class or of any, is neither hit nor miss. A class index means the same class on both sides.
    """
    order = np.argsort(-found.scores, kind="stable")
    _, sources = np.unique(found.source, return_inverse=True)
    outcome = np.empty(len(found), dtype=np.int8)
    outcome[order] = _match(
        corners(found.boxes[order]),
        found.labels[order],
        sources[order],
        corners(truth.boxes),
        truth.labels,
        truth.crowd,
        min(float(iou), 1 - 1e-10),
    )
    if truth.unverified is not None:
        outcome[(outcome == _MISS) & truth.unverified[found.labels]] = _NEITHER
    return Matches(outcome == _HIT, outcome != _NEITHER)


@njit(cache=True)
def _match(boxes, labels, sources, objects, object_labels, crowd, threshold):  # type: ignore[no-untyped-def]
    outcome = np.zeros(len(labels), dtype=np.int8)
    num_sources = sources.max() + 1 if len(sources) else 0
    taken = np.zeros((num_sources, len(object_labels)), dtype=np.bool_)
    for i in range(len(labels)):
        x1, y1, x2, y2 = boxes[:, i]
        best, chosen = threshold, -1
        ignored = False
        for j in range(len(object_labels)):
            a1, b1, a2, b2 = objects[:, j]
            if crowd[j]:
                if object_labels[j] == labels[i] or object_labels[j] < 0:
                    width, height = min(x2, a2) - max(x1, a1), min(y2, b2) - max(y1, b1)
                    area = (x2 - x1) * (y2 - y1)
                    ignored |= width > 0 and height > 0 and width * height >= threshold * area
            elif object_labels[j] == labels[i] and not taken[sources[i], j]:
                iou = iou_of(x1, y1, x2, y2, a1, b1, a2, b2)
                if iou >= best:  # of equals the last, as COCO's loop has it
                    best, chosen = iou, j
        if chosen >= 0:
            taken[sources[i], chosen] = True
            outcome[i] = _HIT
        elif ignored:
            outcome[i] = _NEITHER
    return outcome
