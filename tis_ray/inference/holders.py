"""Which piece of the image speaks for the mask of a given box."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tis_ray.ops.boxes import Boxes
from tis_ray.views import SizeHW, View

SLACK_PX = 0.5  # image pixels: what less than half a pixel is cut off of is whole


def holders_of(boxes: Boxes, tiles: Sequence[View], image_hw: SizeHW) -> NDArray[np.int64]:
    """The number among `tiles` of the one that holds each box (N, 4) wholly, (N,); -1 where none does.

    Of several the one whose inner edges, those that are no edges of the image, are farthest from the box; of equal ones
    the first. A box without area, or beyond the image, is held by none.
    """
    best, holders = np.full(len(boxes), -np.inf), np.full(len(boxes), -1, dtype=np.int64)
    for number, tile in enumerate(tiles):
        margin = _margins(boxes, tile, image_hw)
        better = (margin >= -SLACK_PX) & (margin > best)
        holders[better], best[better] = number, margin[better]
    holders[~_visible(boxes, image_hw)] = -1
    return holders


def _margins(boxes: Boxes, tile: View, image_hw: SizeHW) -> NDArray[np.float64]:
    """Image pixels between each box and the nearest inner edge of `tile`, (N,); below 0 where the box crosses it."""
    x1, y1, x2, y2 = tile.region(image_hw)
    height, width = image_hw
    wide = boxes.astype(np.float64)
    margins = np.full(len(boxes), np.inf)
    if x1 > 0:
        margins = np.minimum(margins, wide[:, 0] - x1)
    if y1 > 0:
        margins = np.minimum(margins, wide[:, 1] - y1)
    if x2 < width:
        margins = np.minimum(margins, x2 - wide[:, 2])
    if y2 < height:
        margins = np.minimum(margins, y2 - wide[:, 3])
    return margins


def _visible(boxes: Boxes, image_hw: SizeHW) -> NDArray[np.bool_]:
    """Which boxes show any of the image, (N,)."""
    height, width = image_hw
    sides = np.minimum(boxes[:, 2:], [width, height]) - np.maximum(boxes[:, :2], 0)
    return np.asarray((sides > 0).all(axis=1))
