"""What a cluster of boxes becomes: one instance at the mean box, which speaks with the voice of its best member."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Instances
from tis_ray.ops.clustering import Clusters


def one_of_each(instances: Instances, clusters: Clusters, scores: NDArray[np.float32]) -> Instances:
    """One instance for each of K clusters of `instances`, by descending `scores` (K,), equal ones as their heads came.

    Label and source are those of the cluster's member of highest score, and the mask, in its own frame, is that of
    the best member that has one.
    """
    order = np.lexsort((clusters.heads, -scores))
    masks = instances.masks
    return replace(
        instances.without_masks()[clusters.heads[order]],
        boxes=clusters.boxes[order],
        scores=scores[order],
        masks=None if masks is None else masks[clusters.best_among(masks.present)[order]],
    )
