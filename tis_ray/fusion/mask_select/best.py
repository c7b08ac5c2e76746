"""Each fused instance keeps the mask of the detection that its box came from: the best source's own mask."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from tis_ray.fusion import candidates
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances


def select(instances: Instances, pool: Pool, *, iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5) -> Instances:
    """The instances as they are, for rules carry the masks of what they keep; those without one are lent one.

    That happens where the best box came from a member that has no masks, or whose masks do not count. It is lent, as
    it is and where it is, that of the detection of the same class, of all views, that overlaps its box most, if their
    IoU is `iou_threshold` or more.
    """
    masks = pool.masked.masks
    if masks is None or len(masks) == 0:
        return instances
    having = np.zeros(len(instances), dtype=np.bool_) if instances.masks is None else instances.masks.present
    if having.all():
        return instances
    nearest = candidates.nearest(instances, pool, iou_threshold=iou_threshold)
    lent = masks[nearest]
    lent = replace(lent, present=lent.present & (nearest >= 0))
    return candidates.with_own(instances, lent, having)
