"""Ignore regions: parts of a training image of which nobody said what they hold, such as COCO's crowds.

What the detector finds there is neither right nor wrong, so no anchor and no proposal that lies mostly inside may
become a negative example. The regions' pixels count, not their boxes: one region of a WAD frame may be scattered
over the whole street, and its box would silence all of it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.masks import CropMasks

# From this share of its area on, a box in ignore regions is no evidence of background.
IGNORED_SHARE = 0.5
# Side of the cells in which ignored pixels are counted; inside a cell they count as evenly spread.
CELL_PX = 4


@dataclass(frozen=True, slots=True)
class IgnoreMap:
    """The union of one image's ignore regions, prepared for one question: how much of a box is ignored?

    integral: float64 (rows + 1, columns + 1); at i, j the number of ignored pixels above row i and left of column j
              of cells of `CELL_PX` pixels. Float64, since differences of up to 10^8 pixels decide over boxes of 60.
    """

    integral: Tensor

    @classmethod
    def of(cls, regions: CropMasks, image_hw: tuple[int, int], device: torch.device) -> Self | None:
        """The map of `regions` in an image of size `image_hw`, on `device`; None where they hold no pixel."""
        inside = regions.crop((0, 0, image_hw[1], image_hw[0]))
        if not any(crop.any() for crop in inside.crops):
            return None
        counts = _count(inside, image_hw)
        integral = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1), np.int32)
        np.cumsum(counts.cumsum(axis=0, dtype=np.int32), axis=1, out=integral[1:, 1:])
        return cls(torch.from_numpy(integral).to(device, non_blocking=True).double())

    def shares(self, boxes: Tensor) -> Tensor:
        """Share of each box's area that is ignored, float64 (N,) in 0..1; 0 for a box without area.

        boxes: (N, 4) xyxy in the image frame; what lies outside of the image is not ignored.
        """
        x1, y1, x2, y2 = boxes.double().unbind(dim=1)
        inside = self._before(x2, y2) - self._before(x1, y2) - self._before(x2, y1) + self._before(x1, y1)
        area = (x2 - x1) * (y2 - y1)
        return torch.where(area > 0, inside / area, 0)

    def _before(self, x: Tensor, y: Tensor) -> Tensor:
        """Ignored pixels (N,) above and left of the points x, y: the integral, linear inside each cell."""
        rows, columns = self.integral.shape
        x, y = (x / CELL_PX).clamp(0, columns - 1), (y / CELL_PX).clamp(0, rows - 1)
        left, top = x.long().clamp(max=columns - 2), y.long().clamp(max=rows - 2)
        flat, place = self.integral.view(-1), top * columns + left
        upper = torch.lerp(flat[place], flat[place + 1], x - left)
        lower = torch.lerp(flat[place + columns], flat[place + columns + 1], x - left)
        return torch.lerp(upper, lower, y - top)


def without_ignored(labels: Tensor, boxes: Tensor, ignore: IgnoreMap | None) -> Tensor:
    """`labels` (N,) of sampled boxes (N, 4), with -1 for the negatives (0) that are ignored; positives stay."""
    if ignore is None:
        return labels
    return torch.where((labels == 0) & (ignore.shares(boxes) >= IGNORED_SHARE), -1, labels)


def _count(regions: CropMasks, image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Ignored pixels of each cell, uint8 (rows, columns); a pixel of several regions counts once."""
    height, width = image_hw
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    union = np.zeros((rows * CELL_PX, columns * CELL_PX), np.uint8)  # one for all regions of an image
    for crop, (x, y) in zip(regions.crops, regions.offsets, strict=True):
        union[y : y + crop.shape[0], x : x + crop.shape[1]] |= crop
    lines = np.bitwise_count(union.view(np.uint32))  # CELL_PX pixels of 0 or 1 at once
    return lines.reshape(rows, CELL_PX, columns).sum(axis=1, dtype=np.uint8)
