"""How well anchors overlap objects of each size, before anything is trained.

No anchors are laid: of one shape on one level the anchor whose centre lies nearest is an object's best, because what
two boxes share is the product of what they share on both axes, and on each axis that only falls as centres part. The
nearest centre is found by rounding on each axis, so an object costs one IoU for each shape rather than one for each of
millions of places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EDGES_PX = (8, 16, 32, 64, 128, 256)
MATCH_IOU = 0.5
_BLOCK = 1 << 15  # objects whose numbers stay in a processor's cache

Values = NDArray[np.float64]  # (N,)


@dataclass(frozen=True, slots=True)
class AnchorLayout:
    """Anchors as a region proposal network lays them, level by level.

    shapes:  for each level the boxes (A, 4) xyxy that are laid around the place of each of its cells
    strides: network pixels from one cell to the next on each level; the first cell's place is the frame's corner
    spread:  cells are spread evenly over the padded frame, as torchvision does: where a level's cells times its stride
             are more than the frame, each step is the whole number of pixels that fits
    """

    shapes: tuple[NDArray[np.float64], ...]
    strides: tuple[int, ...]
    spread: bool = False


@dataclass(frozen=True, slots=True)
class RecallBySize:
    """Recall of B bins of sizes, or of one of all objects.

    counts:    objects (B,)
    recalls:   which share of them has an anchor of IoU `MATCH_IOU` or more (B,), NaN where there is none
    mean_ious: the mean IoU with their best anchors (B,), NaN likewise
    """

    counts: NDArray[np.int64]
    recalls: Values
    mean_ious: Values


def best_ious(boxes: NDArray[np.float64], frames_hw: NDArray[np.int64], layout: AnchorLayout) -> Values:
    """IoU of each object (N, 4) xyxy in its network frame with the best of all anchors of that frame, (N,).

    frames_hw: heights and widths (N, 2) of the objects' frames, padded as the network sees them
    """
    best = np.zeros(len(boxes))
    for start in range(0, len(boxes), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows, columns = np.ascontiguousarray(frames_hw[block].T)
        x1, y1, x2, y2 = np.ascontiguousarray(boxes[block].T)
        areas = (x2 - x1) * (y2 - y1)
        for shapes, stride in zip(layout.shapes, layout.strides, strict=True):
            across, down = _grid(columns, stride, layout.spread), _grid(rows, stride, layout.spread)
            for left, top, right, bottom in shapes.tolist():
                shared = _shared(x1, x2, left, right, *across) * _shared(y1, y2, top, bottom, *down)
                ious = shared / (areas + (right - left) * (bottom - top) - shared)
                np.maximum(best[block], ious, out=best[block])
    return best


def recall_by_size(sizes: Values, ious: Values, edges: Sequence[float] | Values = EDGES_PX) -> RecallBySize:
    """Recall of objects by their `sizes` (N,) in pixels: below the first edge, from each edge to the next, above."""
    bins = np.digitize(sizes, edges)
    count = len(edges) + 1
    counts = np.bincount(bins, minlength=count)
    some = np.where(counts > 0, counts, np.nan)
    found = np.bincount(bins, weights=ious >= MATCH_IOU, minlength=count)
    return RecallBySize(counts, found / some, np.bincount(bins, weights=ious, minlength=count) / some)


def _grid(sides: NDArray[np.int64], stride: int, spread: bool) -> tuple[Values, Values]:
    """Of frames with these sides the last cell and the step from one to the next, (N,) each."""
    cells = -(-sides // stride)
    steps = sides // cells if spread else np.full_like(sides, stride)
    return np.asarray(cells - 1, dtype=np.float64), np.asarray(steps, dtype=np.float64)


def _shared(low: Values, high: Values, start: float, end: float, last: Values, step: Values) -> Values:
    """What the stretches low..high share on one axis with start..end laid at the nearest of the cells 0..last."""
    places = np.clip(np.rint((low + high - (start + end)) / (2 * step)), 0, last) * step
    return np.asarray(np.maximum(np.minimum(high, places + end) - np.maximum(low, places + start), 0))
