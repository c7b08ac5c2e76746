"""The masks of all detections of an object vote by score, on whichever boxes they sit.

Where `average` gives each view one say, each detection has one here: a view that found an object twice speaks twice.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.fusion import candidates
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops import neighbours, run_algebra


def select(
    instances: Instances,
    pool: Pool,
    *,
    iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5,
    iou: Literal["box", "mask"] = "box",
) -> Instances:
    """At each point sum(score * probability) / sum(score) of the voters, resampled onto the fused box.

    Voters are all detections of the same class whose IoU with the fused instance is `iou_threshold` or more, that of
    their boxes or that of their `mask`s with the one that the instance comes with. One that comes without a mask, or
    with one that has no pixel, goes by its box.
    """
    masked = pool.masked
    voters = neighbours.overlapping(
        instances.boxes, instances.labels, masked.boxes, masked.labels, iou_threshold=iou_threshold
    )
    if iou == "mask" and instances.masks is not None and len(masked):
        voters = _by_mask(instances, pool, voters, iou_threshold)
    voters = candidates.without_strangers(voters, pool)
    return candidates.average_masks(instances, pool, voters, weights="score")


def _by_mask(instances: Instances, pool: Pool, by_box: NDArray[np.int64], iou_threshold: float) -> NDArray[np.int64]:
    """Voters (N, V) by the IoU of masks, or `by_box` where an instance has no pixel to compare."""
    assert instances.masks is not None
    assert pool.masked.masks is not None
    own = instances.masks.to_runs(*pool.image_hw)
    rivals = np.flatnonzero(np.isin(pool.masked.labels, instances.labels))
    ious = run_algebra.pairwise_iou(own, pool.masked.masks[rivals].to_runs(*pool.image_hw))
    alike = (ious >= iou_threshold) & (instances.labels[:, None] == pool.masked.labels[rivals])
    shown = run_algebra.areas(own) > 0
    rows, columns = np.nonzero(alike & shown[:, None])
    box_rows, box_columns = np.nonzero((by_box >= 0) & ~shown[:, None])
    return neighbours.listed(
        np.concatenate([rows, box_rows]),
        np.concatenate([rivals[columns], by_box[box_rows, box_columns]]),
        count=len(instances),
    )
