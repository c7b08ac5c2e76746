"""Valid ranges (LVIS 2020): each scale speaks only for the sizes it sees well, small objects at large scales."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Instances
from tis_ray.ops.boxes import Boxes
from tis_ray.views import View

Range = tuple[float, float]  # [low, high) of sqrt(box area) in image pixels


def within(instances: Instances, view: View, ranges: Mapping[str, Range]) -> Instances:
    """The instances whose size the view may speak for.

    `ranges` is keyed by `View.key`, or by that without the member (`@scale`) for the members without an entry of
    their own; a view without either speaks for every size.
    """
    found = ranges.get(view.key, ranges.get(view.key[view.key.index("@") :]))
    if found is None:
        return instances
    low, high = found
    sizes = box_sizes(instances.boxes)
    return instances[(sizes >= low) & (sizes < high)]


def box_sizes(boxes: Boxes) -> NDArray[np.float64]:
    """sqrt(box area) in pixels, (N,)."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))
