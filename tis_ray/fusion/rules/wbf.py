"""Weighted boxes fusion (Solovyev et al. 2021): all boxes of an object make one, and agreement makes its score."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.fusion.clusters import one_of_each
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.clustering import Clusters, around_means

Confidence = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]


def merge(
    instances: Instances,
    pool: Pool,
    *,
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = 0.55,
    confidence: Confidence = "avg",
    class_agnostic: bool = False,
) -> Instances:
    """Make one box of each cluster of boxes, by class unless `class_agnostic`.

    Boxes come by descending score. Each joins the cluster whose mean box it overlaps most, if their IoU is greater
    than `iou_threshold`, or opens one; the mean, weighted by score, moves with every box that joins. Class and source
    are those of the cluster's best box; the mask is that of the best box that has one, in its own frame.

    The score asks how many views agree. Those count that could have found the fused box (see `Pool.can_see`) and those
    that did: a view that failed, or does not speak for the box's size or place, is not held against it. With the
    weights of the views, `confidence` (`conf_type` in ensemble-boxes) is
    - `avg`: the mean score, times the number of boxes, at most that of views, over the sum of the views' weights;
    - `max`: the best score;
    - `box_and_model_avg`: the sum of scores over the weights of their boxes, times the share of weight that agrees;
    - `absent_model_aware_avg`: the sum of scores over the weights of their boxes and of the views that found none.
    It is no more than the best score of the cluster. In ensemble-boxes it may be, where views differ in weight: a
    heavy one with several boxes, or light ones that are sure. All else is as there.
    """
    groups = np.zeros_like(instances.labels) if class_agnostic else instances.labels
    clusters = around_means(instances.boxes, instances.scores, groups, iou_threshold=iou_threshold)
    best = instances.scores[clusters.heads]
    if confidence == "max":
        return one_of_each(instances, clusters, best)
    agreed = _agreement(clusters, instances.source, pool, confidence).astype(np.float32)
    return one_of_each(instances, clusters, np.minimum(agreed, best))


def _agreement(
    clusters: Clusters, source: NDArray[np.int32], pool: Pool, confidence: Confidence
) -> NDArray[np.float64]:
    """The score of each cluster (K,) by the views that found it and those that could have."""
    found = np.zeros((len(clusters), len(pool.views)), dtype=np.bool_)
    found[clusters.members, source] = True
    asked = found | pool.can_see(clusters.boxes)
    boxes = np.bincount(clusters.members, minlength=len(clusters))
    of_boxes = np.bincount(clusters.members, weights=pool.weights[source], minlength=len(clusters))
    if confidence == "avg":
        return _ratio(clusters.weights * np.minimum(asked.sum(axis=1), boxes), boxes * _sum(asked, pool))
    if confidence == "box_and_model_avg":
        return _ratio(clusters.weights * _sum(found, pool), of_boxes * _sum(asked, pool))
    return _ratio(clusters.weights, of_boxes + _sum(asked & ~found, pool))


def _sum(views: NDArray[np.bool_], pool: Pool) -> NDArray[np.float64]:
    """The sum of the weights of these views (K, S), (K,)."""
    return np.asarray((views * pool.weights).sum(axis=1))


def _ratio(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where no view has weight, and so no box a score."""
    return np.divide(scores, weights, out=np.zeros_like(scores), where=weights > 0)
