"""Non-maximum weighted (Zhou et al. 2017): what suppression would drop moves the box that it would drop it for."""

from typing import Annotated

import numpy as np
from pydantic import Field

from tis_ray.fusion.clusters import one_of_each
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.clustering import around_heads


def merge(
    instances: Instances,
    pool: Pool,  # noqa: ARG001
    *,
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = 0.55,
    class_agnostic: bool = False,
) -> Instances:
    """Make one box of each cluster of boxes around one of higher score, by class unless `class_agnostic`.

    Boxes come by descending score. Each joins the cluster whose first box it overlaps most, if their IoU is greater
    than `iou_threshold`, or opens one. The box is the mean weighted by score times IoU with the first, whose score,
    class and source it keeps. Its mask is that of the best box that has one, in its own frame.
    """
    groups = np.zeros_like(instances.labels) if class_agnostic else instances.labels
    clusters = around_heads(instances.boxes, instances.scores, groups, iou_threshold=iou_threshold)
    return one_of_each(instances, clusters, instances.scores[clusters.heads])
