"""Which part of an image becomes a training sample: the Valid Training Region of TIS (WAD 2018), or all of it.

Street images are mostly sky and road. Cutting them to what surrounds their objects lets the same memory hold a larger
picture; whole images stay in the mix, so that the detector sees the background too.
"""

from dataclasses import dataclass

import numpy as np

from tis_ray.instances import Annotations
from tis_ray.views import SizeHW

Region = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels

MIN_SIDE_PX = 256
MAX_SIDE_RATIO = 4


@dataclass(frozen=True, slots=True)
class ValidTrainingRegion:
    """Takes what surrounds all objects of an image, regions to ignore left aside, with a `probability`.

    margin: pixels left free on each side, drawn from low..high for each anew
    """

    probability: float = 0.5
    margin: tuple[float, float] = (50.0, 50.0)

    def draw(self, chance: np.random.Generator, annotations: Annotations, size_hw: SizeHW) -> Region | None:
        """The region of an image of height and width `size_hw`; None for the whole image, as without any object.

        Five numbers are drawn from `chance`, whatever comes of them.
        """
        chosen = chance.random() < self.probability
        margins = chance.uniform(*self.margin, size=4)
        boxes = annotations.boxes[~annotations.crowd].astype(np.float64)
        if not chosen or not len(boxes):
            return None
        return surrounding(boxes, margins, size_hw)


def surrounding(boxes: np.ndarray, margins: np.ndarray, size_hw: SizeHW) -> Region:
    """The union of boxes (N, 4) xyxy, N > 0, with margins (4,) left, top, right and bottom, within the image.

    Rounded outwards to whole pixels; sides below 256 px, or below a quarter of the other side, grow about their
    middle as far as the image allows, and towards one side where it ends on the other.
    """
    height, width = size_hw
    x1, y1 = np.floor(np.maximum(boxes[:, :2].min(axis=0) - margins[:2], 0)).astype(int).tolist()
    x2, y2 = np.ceil(np.minimum(boxes[:, 2:].max(axis=0) + margins[2:], (width, height))).astype(int).tolist()
    shortest_x = max(MIN_SIDE_PX, -(-(y2 - y1) // MAX_SIDE_RATIO))
    shortest_y = max(MIN_SIDE_PX, -(-(x2 - x1) // MAX_SIDE_RATIO))
    (x1, x2), (y1, y2) = _grown(x1, x2, shortest_x, width), _grown(y1, y2, shortest_y, height)
    return x1, y1, x2, y2


def _grown(low: int, high: int, side: int, limit: int) -> tuple[int, int]:
    """The interval low..high made at least `side` long about its middle, within 0..limit."""
    side = min(side, limit)
    if high - low >= side:
        return low, high
    low = min(max(low - (side - (high - low)) // 2, 0), limit - side)
    return low, low + side
