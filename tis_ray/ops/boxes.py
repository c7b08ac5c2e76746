"""Box arithmetic on numpy arrays. Boxes are float (N, 4) absolute xyxy in continuous coordinates: the width
is `x2 - x1`, and a box that covers pixel column 0 alone is x 0..1."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]  # (N, 4) xyxy


def area(boxes: Boxes) -> NDArray[np.float32]:
    """Areas (N,) in square pixels; a box with x2 < x1 or y2 < y1 has area 0."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], dtype=np.float32)


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    """Boxes cut to the image 0..width, 0..height."""
    limits = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(boxes, np.float32(0), limits)


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """(x1, y1, x2, y2) to (x, y, width, height)."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """(x, y, width, height) to (x1, y1, x2, y2)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def hflip(boxes: Boxes, width: float) -> Boxes:
    """Boxes in the frame mirrored about the vertical axis: x1' = width - x2, x2' = width - x1."""
    mirrored = boxes.copy()
    mirrored[:, 0] = np.float32(width) - boxes[:, 2]
    mirrored[:, 2] = np.float32(width) - boxes[:, 0]
    return mirrored
