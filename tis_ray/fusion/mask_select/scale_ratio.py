"""The mask from the scales that show the object at the size a mask head sees best (LVIS 2020).

That size goes by the box's scale and by the share of the box that the mask fills: a thin diagonal object fills little
of its box and wants a larger scale than a compact one.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.fusion import candidates
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.ranges import box_sizes
from tis_ray.instances import Instances
from tis_ray.views import SizeHW, View

_BEST_SIZE_PX = 224.0  # network pixels: the size that FPN's level rule takes for an ordinary object


def select(
    instances: Instances,
    pool: Pool,
    *,
    k: Annotated[int, Field(ge=1)] = 2,
    iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5,
    weights: candidates.Weights = "equal",
) -> Instances:
    """Average the masks of the `k` scales that suit each fused box best, of those where it was found.

    Found means by a detection of the same class with an IoU of `iou_threshold` or more. A scale is all views of one
    resize factor: a mirror image, or another member at the same factor, has its say beside them. Of scales that suit
    equally, the smaller goes first. The share of the box that the object fills is read from the mask that the instance
    comes with; one that comes without is taken for compact.
    """
    picks = candidates.find(instances, pool, iou_threshold=iou_threshold)
    present = np.unique(pool.masked.source)
    factors, scale_of = np.unique(_resize_factors(pool.views, present, pool.image_hw), return_inverse=True)
    suits = distances(box_sizes(instances.boxes), _filled(instances), factors)
    seen = (picks >= 0).astype(np.float64) @ (scale_of[:, None] == np.arange(len(factors))) > 0
    suits[~seen] = np.inf
    chosen = np.zeros(suits.shape, dtype=np.bool_)
    np.put_along_axis(chosen, np.argsort(suits, axis=1, kind="stable")[:, :k], True, axis=1)
    return candidates.average_masks(instances, pool, np.where(chosen[:, scale_of], picks, -1), weights=weights)


def _filled(instances: Instances) -> NDArray[np.float64]:
    """Share of the box that the own mask fills, (N,); 0 where there is none."""
    if instances.masks is None:
        return np.zeros(len(instances))
    return np.where(instances.masks.present, instances.masks.filled(instances.boxes), 0)


def distances(
    sizes: NDArray[np.float64], filled: NDArray[np.float64], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Octaves (N, S) between the size of each object at each scale and the best one, 224 network pixels.

    sizes: sqrt(box area) in image pixels (N,); filled: share of the box that the mask fills (N,), in 0..1, where 0
    (no mask to go by) is read as 1; factors: network pixels per image pixel (S,), above 0
    """
    sides = np.maximum(sizes, np.finfo(np.float32).tiny) * np.sqrt(np.where(filled > 0, filled, 1))
    return np.asarray(np.abs(np.log2(sides[:, None] * factors / _BEST_SIZE_PX)))


def _resize_factors(sources: Sequence[View], present: NDArray[np.int32], image_hw: SizeHW) -> NDArray[np.float64]:
    """Network pixels per image pixel of each view, (S,); 1 for those that brought nothing, whose crop may not fit."""
    factors = np.ones(len(sources))
    for number in present:
        factors[number] = sources[number].resize_factor(image_hw) or 1
    return factors
