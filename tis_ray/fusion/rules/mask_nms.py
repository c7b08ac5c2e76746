"""Suppression by masks: of masks that overlap, the one with the highest score stays, or the others lose score.

Thin objects that cross are spared: their boxes overlap, they do not. One object found twice, in boxes that differ, is
not.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.mask_suppression import mask_nms_keep, mask_soft_nms_gaussian, mask_soft_nms_linear
from tis_ray.ops.ordering import falling
from tis_ray.ops.runs import Runs


def merge(
    instances: Instances,
    pool: Pool,
    *,
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    method: Literal["hard", "linear", "gaussian"] = "hard",
    sigma: Annotated[float, Field(gt=0)] = 0.5,
    min_score: Annotated[float, Field(ge=0, le=1)] = 1e-4,
    class_agnostic: bool = False,
) -> Instances:
    """Compare masks by their IoU in pixels, by class unless `class_agnostic`.

    `hard` drops an instance whose IoU with a kept one is greater than `iou_threshold`. `linear` multiplies its score
    by 1 - IoU instead where the IoU is greater, `gaussian` by exp(-IoU^2 / `sigma`) always; instances are then chosen
    by decayed score and dropped below `min_score`. A mask without a pixel in the image is dropped. An instance without
    a mask stays as it is and suppresses none: there is nothing to judge it by.
    """
    scores = instances.scores.copy()
    if instances.masks is not None:
        masked = np.flatnonzero(instances.masks.present)
        masks = instances.masks if len(masked) == len(instances) else instances.masks[masked]
        runs = masks.to_runs(*pool.image_hw)
        groups = np.zeros_like(instances.labels) if class_agnostic else instances.labels
        scores[masked] = _suppressed(
            runs, scores[masked], groups[masked], iou_threshold=iou_threshold, method=method, sigma=sigma, low=min_score
        )
    kept = falling(scores)
    kept = kept[scores[kept] >= 0]
    return instances[kept].with_scores(scores[kept])


def _suppressed(
    runs: Runs,
    scores: NDArray[np.float32],
    groups: NDArray[np.int32],
    *,
    iou_threshold: float,
    method: str,
    sigma: float,
    low: float,
) -> NDArray[np.float32]:
    """The scores (N,) that remain; -1 of what is dropped."""
    if method == "linear":
        return mask_soft_nms_linear(runs, scores, groups, iou_threshold=iou_threshold, min_score=low)
    if method == "gaussian":
        return mask_soft_nms_gaussian(runs, scores, groups, sigma=sigma, min_score=low)
    kept = mask_nms_keep(runs, scores, groups, iou_threshold=iou_threshold)
    remaining = np.full_like(scores, -1)
    remaining[kept] = scores[kept]
    return remaining
