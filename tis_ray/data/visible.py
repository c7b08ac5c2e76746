"""What is left of objects where a picture ends within them, and which of them are still worth learning from."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.ops import boxes as box_ops
from tis_ray.ops.boxes import Boxes

MIN_VISIBLE = 0.1  # of an object's area, as in YOLOv5's mosaic
MIN_SIDE_PX = 1.0


def with_visible(before: Annotations, masks: CropMasks, boxes: Boxes, *, min_visible: float) -> Annotations:
    """The objects of `before` of which at least `min_visible` of the area is left in `masks`, at the same scale.

    `boxes` (N, 4) are theirs in the frame of `masks`, cut at its border. Where a mask has lost pixels, its box becomes
    that of the pixels it still has; an object without any pixels before is judged by its box. A crowd stays as long as
    a pixel of it does.
    """
    had, has = before.masks.areas(), masks.areas()
    lost = has < had
    share = np.where(had > 0, has / np.maximum(had, 1), _ratio(box_ops.area(boxes), box_ops.area(before.boxes)))
    kept = np.where(before.crowd, has > 0, (share >= min_visible) & (share > 0))
    tight = boxes.copy()
    tight[lost & kept] = masks[lost & kept].tight().boxes()
    return replace(before, boxes=tight, masks=masks)[kept]


def without_tiny(annotations: Annotations) -> Annotations:
    """Without the objects whose boxes have a side below 1 px; regions to ignore stay."""
    sides = annotations.boxes[:, 2:] - annotations.boxes[:, :2]
    return annotations[annotations.crowd | (sides >= MIN_SIDE_PX).all(axis=1)]


def _ratio(part: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
