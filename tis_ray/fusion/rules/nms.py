"""Hard non-maximum suppression: of boxes that overlap, the one with the highest score stays."""

from typing import Annotated

import numpy as np
from pydantic import Field

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.suppression import nms_keep


def merge(
    instances: Instances,
    pool: Pool,  # noqa: ARG001
    *,
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    class_agnostic: bool = False,
) -> Instances:
    """Drop a box where its IoU with a kept one is greater than `iou_threshold`, by class unless `class_agnostic`.

    Classes are suppressed one by one rather than moved apart in one frame, which would cost float32 its
    fractions of a pixel where there are many classes.
    """
    groups = np.zeros_like(instances.labels) if class_agnostic else instances.labels
    return instances[nms_keep(instances.boxes, instances.scores, groups, iou_threshold=iou_threshold)]
