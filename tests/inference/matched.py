"""Two answers about one picture, instance by instance."""

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Instances
from tis_ray.ops.overlaps import pairwise_iou


def matched(expected: Instances, found: Instances) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """The share of `expected` that has a twin among `found`, of its class and overlapping it by half or more; of those
    that do how much they overlap, (T,), and how far their scores are apart, (T,)."""
    overlaps = pairwise_iou(expected.boxes, found.boxes) * (expected.labels[:, None] == found.labels[None])
    twins, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    has = best >= 0.5
    return float(has.mean()), best[has], np.abs(expected.scores - found.scores[twins])[has]
