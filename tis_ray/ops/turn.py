"""Turning masks, label images and boxes about the middle of their image, counter-clockwise, without a full-size mask.

A new pixel shows the old one in which the point lies that its centre came from.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes, clip

SizeHW = tuple[int, int]
Pixels = NDArray[np.uint8]


def turned_crop(
    crop: Pixels, offset_xy: tuple[int, int], degrees: float, size_hw: SizeHW
) -> tuple[Pixels, tuple[int, int]]:
    """A crop (h, w) at `offset_xy` of an image, and its new place, after the image was turned; 0 beside it.

    What leaves the image is cut off; nothing left is a crop without rows or columns.
    """
    x, y = offset_xy
    box = np.array([[x, y, x + crop.shape[1], y + crop.shape[0]]], dtype=np.float32)
    low_x, low_y, high_x, high_y = turned_boxes(box, degrees, size_hw)[0].tolist()
    # A pixel beyond the corners costs nothing, one short of them would be missing.
    x1, y1 = max(math.floor(low_x) - 1, 0), max(math.floor(low_y) - 1, 0)
    x2, y2 = min(math.ceil(high_x) + 1, size_hw[1]), min(math.ceil(high_y) + 1, size_hw[0])
    out = np.zeros((max(y2 - y1, 0), max(x2 - x1, 0)), dtype=np.uint8)
    cos, sin = _cos_sin(degrees)
    _turn(np.ascontiguousarray(crop), x, y, cos, sin, size_hw[0], size_hw[1], out, x1, y1)
    return out, (x1, y1)


def turned_labels(labels: Pixels, degrees: float, *, fill: int) -> Pixels:
    """A label image (H, W), turned; `fill` where it was not."""
    out = np.full(labels.shape, fill, dtype=np.uint8)
    cos, sin = _cos_sin(degrees)
    _turn(np.ascontiguousarray(labels), 0, 0, cos, sin, labels.shape[0], labels.shape[1], out, 0, 0)
    return out


def turned_boxes(boxes: Boxes, degrees: float, size_hw: SizeHW) -> Boxes:
    """The boxes (N, 4) around the turned corners of boxes, cut at the image's border."""
    height, width = size_hw
    cos, sin = _cos_sin(degrees)
    x = boxes[:, [0, 2, 0, 2]].astype(np.float64) - width / 2
    y = boxes[:, [1, 1, 3, 3]].astype(np.float64) - height / 2
    new_x, new_y = cos * x + sin * y + width / 2, -sin * x + cos * y + height / 2
    around = np.stack([new_x.min(axis=1), new_y.min(axis=1), new_x.max(axis=1), new_y.max(axis=1)], axis=1)
    return clip(around.astype(np.float32), height, width)


def _cos_sin(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


@njit(cache=True)
def _turn(pixels, x0, y0, cos, sin, height, width, out, out_x, out_y):  # type: ignore[no-untyped-def]
    """Fill `out`, which lies at out_x, out_y, with what `pixels` at x0, y0 show there after turning."""
    for i in range(out.shape[0]):
        dy = out_y + i + 0.5 - height / 2
        for j in range(out.shape[1]):
            dx = out_x + j + 0.5 - width / 2
            x = np.int64(np.floor(cos * dx - sin * dy + width / 2)) - x0
            y = np.int64(np.floor(sin * dx + cos * dy + height / 2)) - y0
            if 0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]:
                out[i, j] = pixels[y, x]
