"""All that the views found of one image, before the first rule, and who of them could have found what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.fusion.ranges import box_sizes
from tis_ray.instances import Instances
from tis_ray.ops.boxes import Boxes
from tis_ray.views import SizeHW, View


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What rules and mask policies may look back at, S views by number.

    instances: the union of the views whose boxes count, with its scores before any rule
    masked:    the union of the views whose masks count, each instance with its mask; masks None where there is none
    views:     all views that were asked; those that failed included
    heard:     bool (S,) which of them answered, and with boxes that count
    weights:   float64 (S,) what the scores of each were multiplied by, for its member's sake: the largest is 1
    intervals: float64 (S, 2) [low, high) of sqrt(box area) in image pixels that each may speak for
    image_hw:  the image's height and width
    predicted_for: int64 (len(masked),) the fused instance whose box each was predicted for in a second pass, -1 for a
               view's own detections; None where there was no second pass
    """

    instances: Instances
    masked: Instances
    views: tuple[View, ...]
    heard: NDArray[np.bool_]
    weights: NDArray[np.float64]
    intervals: NDArray[np.float64]
    image_hw: SizeHW
    predicted_for: NDArray[np.int64] | None = None

    @staticmethod
    def of(instances: Instances, *, views: Sequence[View] = (), image_hw: SizeHW = (1 << 20, 1 << 20)) -> "Pool":
        """A pool of whole-image views that all answered, count alike and speak for every size."""
        count = int(instances.source.max(initial=-1)) + 1
        views = tuple(views) or tuple(View(f"{number:06}", 1) for number in range(count))
        return Pool(
            instances,
            instances if instances.masks is None else instances[instances.masks.present],
            views,
            np.ones(len(views), dtype=np.bool_),
            np.ones(len(views)),
            np.tile([0.0, np.inf], (len(views), 1)),
            image_hw,
        )

    def can_see(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Which views could have found each of `boxes` (N, 4) in the image frame, bool (N, S).

        Those whose boxes were heard, that may speak for its size, and look at its centre.
        """
        sizes = box_sizes(boxes)[:, None]
        seen = self.heard & (sizes >= self.intervals[:, 0]) & (sizes < self.intervals[:, 1])
        centres = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
        for number, view in enumerate(self.views):
            if view.crop:
                x1, y1, x2, y2 = view.crop
                inside = (centres >= [x1, y1]) & (centres <= [x2, y2])
                seen[:, number] &= inside.all(axis=1)
        return np.asarray(seen)


def in_order(instances: Instances) -> Instances:
    """The same instances by descending score, then label, box and mask: an order that their arrival has no say in."""
    keys = np.concatenate([instances.boxes.T[::-1], instances.labels[None], -instances.scores[None]])
    order = np.lexsort(keys)
    if instances.masks is not None and len(order) > 1:
        same = (keys[:, order[1:]] == keys[:, order[:-1]]).all(axis=0)
        for start, stop in _stretches(same):
            order[start:stop] = sorted(order[start:stop].tolist(), key=instances.masks.key)
    return instances if (order[1:] > order[:-1]).all() else instances[order]


def _stretches(same: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, stop) of the stretches of at least two neighbours that are all the `same` (N - 1,) as the next."""
    change = np.diff(np.concatenate([[False], same, [False]]).astype(np.int8))
    return [
        (int(start), int(stop) + 1)
        for start, stop in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True)
    ]
