"""Soft-NMS (Bodla et al. 2017): overlapping boxes lose score rather than being dropped."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.suppression import soft_nms_gaussian, soft_nms_linear


def merge(
    instances: Instances,
    pool: Pool,  # noqa: ARG001
    *,
    method: Literal["linear", "gaussian"] = "linear",
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    sigma: Annotated[float, Field(gt=0)] = 0.5,
    min_score: Annotated[float, Field(ge=0, le=1)] = 1e-4,
    class_agnostic: bool = False,
) -> Instances:
    """Decay the scores of boxes that overlap a better one, and drop those below `min_score`.

    Boxes are chosen by decayed score, the first of equals first. `linear` multiplies by 1 - IoU where the IoU
    is greater than `iou_threshold`; `gaussian` by exp(-IoU^2 / `sigma`) always.
    """
    groups = np.zeros_like(instances.labels) if class_agnostic else instances.labels
    boxes, scores = instances.boxes, instances.scores
    if method == "linear":
        decayed = soft_nms_linear(boxes, scores, groups, iou_threshold=iou_threshold, min_score=min_score)
    else:
        decayed = soft_nms_gaussian(boxes, scores, groups, sigma=sigma, min_score=min_score)
    kept = np.flatnonzero(decayed >= 0)
    kept = kept[np.argsort(-decayed[kept], kind="stable")]
    return instances[kept].with_scores(decayed[kept])
