"""Which detections of the views show the object of a fused instance, and the mean of their masks.

A view's candidate is its detection of the same class that overlaps the fused box most, if it does so enough: each view
has one say, and a view that missed the object has none.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.voting import best_of_each_source

Weights = Literal["equal", "score"]


def find(instances: Instances, pool: Pool, *, iou_threshold: float) -> NDArray[np.int64]:
    """Position in `pool.masked` of each view's candidate for each instance, (N, S); -1 where a view has none."""
    return best_of_each_source(
        instances.boxes,
        instances.labels,
        pool.masked.boxes,
        pool.masked.labels,
        pool.masked.source,
        num_sources=len(pool.views),
        iou_threshold=iou_threshold,
    )


def average_masks(instances: Instances, pool: Pool, picks: NDArray[np.int64], *, weights: Weights) -> Instances:
    """The instances with the mean of the masks of `picks` (N, S; positions in `pool.masked` or -1) over their boxes.

    Masks count alike, or by the `score` of their detections. An instance without picks keeps its own mask, if it has
    one. Returned as they are where there are no masks.
    """
    if pool.masked.masks is None or len(pool.masked) == 0:
        return instances
    picked = picks >= 0
    shares = pool.masked.scores[picks].astype(np.float64) if weights == "score" else np.ones(picks.shape)
    silent = np.where(picked, shares, 0).sum(axis=1, keepdims=True) == 0
    shares = np.where(silent, 1, shares)  # where all score 0 they count alike
    means = pool.masked.masks.averaged(instances.boxes, picks, shares)
    if instances.masks is not None:
        lacking = np.asarray(~picked.any(axis=1))
        means = means.replaced(lacking, instances.masks)  # type: ignore[arg-type]  # a pool has masks of one kind
    return replace(instances, masks=means)
