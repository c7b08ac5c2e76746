"""Which detections of the views show the object of a fused instance, and the mean of their masks.

A view's candidate is its detection of the same class that overlaps the fused box most, if it does so enough: each view
has one say, and a view that missed the object has none. Only detections whose masks may speak are looked at. A view
that has predicted masks for the fused boxes themselves, in a second pass, has its say with those alone.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import Masks
from tis_ray.ops.patches import Of
from tis_ray.ops.voting import best_of_each_source

Weights = Literal["equal", "score"]


def find(instances: Instances, pool: Pool, *, iou_threshold: float) -> NDArray[np.int64]:
    """Position in `pool.masked` of each view's candidate for each instance, (N, S); -1 where a view has none."""
    picks = best_of_each_source(
        instances.boxes,
        instances.labels,
        pool.masked.boxes,
        pool.masked.labels,
        pool.masked.source,
        num_sources=len(pool.views),
        iou_threshold=iou_threshold,
    )
    if pool.predicted_for is not None:
        second = np.flatnonzero(pool.predicted_for >= 0)
        picks[:, np.unique(pool.masked.source[second])] = -1
        picks[pool.predicted_for[second], pool.masked.source[second]] = second
    return picks


def nearest(instances: Instances, pool: Pool, *, iou_threshold: float) -> NDArray[np.int64]:
    """Position in `pool.masked` of the candidate among those of all views that overlaps most, (N,); -1 for none.

    Of equal ones that of the first view. What was predicted for an instance's own box goes before all others.
    """
    own = np.flatnonzero(pool.predicted_for < 0) if pool.predicted_for is not None else np.arange(len(pool.masked))
    picks = best_of_each_source(
        instances.boxes,
        instances.labels,
        pool.masked.boxes[own],
        pool.masked.labels[own],
        np.zeros(len(own), dtype=np.int32),
        num_sources=1,
        iou_threshold=iou_threshold,
    )[:, 0]
    picks[picks >= 0] = own[picks[picks >= 0]]
    if pool.predicted_for is not None:
        second = np.flatnonzero(pool.predicted_for >= 0)[::-1]  # of several the first is written last
        picks[pool.predicted_for[second]] = second
    return picks


def without_strangers(picks: NDArray[np.int64], pool: Pool) -> NDArray[np.int64]:
    """`picks` (N, V), positions in `pool.masked` or -1, without masks predicted for the box of another instance."""
    if pool.predicted_for is None or len(pool.masked) == 0:
        return picks
    meant = pool.predicted_for[picks]
    return np.where((meant < 0) | (meant == np.arange(len(picks))[:, None]), picks, -1)


def strongest(pool: Pool, picks: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """`picks` (N, S) without those that are not among the row's `k` highest scores; of equal ones the first stay."""
    if k >= picks.shape[1] or len(pool.masked) == 0:
        return picks
    scores = np.where(picks >= 0, pool.masked.scores[picks], -1)
    kept = np.zeros(picks.shape, dtype=np.bool_)
    np.put_along_axis(kept, np.argsort(-scores, axis=1, kind="stable")[:, :k], True, axis=1)
    return np.where(kept, picks, -1)


def average_masks(
    instances: Instances, pool: Pool, picks: NDArray[np.int64], *, weights: Weights, of: Of = "probability"
) -> Instances:
    """The instances with the mean of the masks of `picks` (N, S; positions in `pool.masked` or -1) over their boxes.

    Masks count alike, or by the `score` of their detections. Of masks that are pixels already the mean is their
    majority, and so it is of their logits. An instance without picks keeps its own mask, if it has one. Returned as
    they are where there are no masks to pick from.
    """
    masks = pool.masked.masks
    if masks is None or len(masks) == 0:
        return instances
    picked = (picks >= 0) & masks.present[picks]
    picks = np.where(picked, picks, -1)
    shares = pool.masked.scores[picks].astype(np.float64) if weights == "score" else np.ones(picks.shape)
    silent = np.where(picked, shares, 0).sum(axis=1, keepdims=True) == 0
    shares = np.where(silent, 1, shares)  # where all score 0 they count alike
    means = masks.averaged(instances.boxes, picks, shares, of=of)
    return with_own(instances, means, np.asarray(~picked.any(axis=1)))


def with_own(instances: Instances, masks: Masks, where: NDArray[np.bool_]) -> Instances:
    """The instances with `masks`, as many, but their own `where` (N,) says so: there they may have one or none."""
    if instances.masks is not None:
        masks = masks.replaced(where, instances.masks)  # type: ignore[arg-type]  # a pool has masks of one kind
    return replace(instances, masks=masks)
