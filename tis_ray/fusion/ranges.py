"""Valid ranges (LVIS 2020): each scale speaks only for the sizes it sees well, small objects at large scales."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Instances
from tis_ray.ops.boxes import Boxes
from tis_ray.views import View

Range = tuple[float, float]  # [low, high) of sqrt(box area) in image pixels
EVERY_SIZE: Range = (0.0, float("inf"))


def range_of(view: View, ranges: Mapping[str, Range]) -> Range | None:
    """The sizes that a view may speak for as `ranges` has it, or None.

    `ranges` is keyed by `View.key`, or by that without the member (`@scale`) for the members without an entry of
    their own.
    """
    return ranges.get(view.key, ranges.get(view.key[view.key.index("@") :]))


def within(instances: Instances, interval: Range) -> Instances:
    """The instances whose size lies in the interval."""
    if interval == EVERY_SIZE:
        return instances
    low, high = interval
    sizes = box_sizes(instances.boxes)
    return instances[(sizes >= low) & (sizes < high)]


def box_sizes(boxes: Boxes) -> NDArray[np.float64]:
    """sqrt(box area) in pixels, (N,)."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))
