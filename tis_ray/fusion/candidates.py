"""Which detections of the views show the object of a fused instance, and the mean of their masks.

A view's candidate is its detection of the same class that overlaps the fused box most, if it does so enough: each view
has one say, and a view that missed the object has none.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.ops.patches import average_onto
from tis_ray.ops.voting import best_of_each_source

Weights = Literal["equal", "score"]


def find(instances: Instances, pool: Instances, *, num_sources: int, iou_threshold: float) -> NDArray[np.int64]:
    """Position in `pool` of each view's candidate for each instance, (N, num_sources); -1 where a view has none."""
    return best_of_each_source(
        instances.boxes,
        instances.labels,
        pool.boxes,
        pool.labels,
        pool.source,
        num_sources=num_sources,
        iou_threshold=iou_threshold,
    )


def average_masks(instances: Instances, pool: Instances, picks: NDArray[np.int64], *, weights: Weights) -> Instances:
    """The instances with the mean of the masks of `picks` (N, S; positions in `pool` or -1) over their own boxes.

    Masks count alike, or by the `score` of their detections. An instance without picks keeps its mask. Returned as they
    are where there are no masks.
    """
    if instances.masks is None or pool.masks is None:
        return instances
    shares = pool.scores[picks].astype(np.float64) if weights == "score" else np.ones(picks.shape)
    picked = picks >= 0
    silent = np.where(picked, shares, 0).sum(axis=1, keepdims=True) == 0
    shares = np.where(silent, 1, shares)  # where all score 0 they count alike
    means = average_onto(instances.boxes, pool.masks.probabilities, pool.masks.boxes, picks, shares)
    lacking = np.flatnonzero(~picked.any(axis=1))
    boxes = instances.boxes.copy()
    boxes[lacking], means[lacking] = instances.masks.boxes[lacking], instances.masks.probabilities[lacking]
    return replace(instances, masks=BoxMasks(boxes, means))
