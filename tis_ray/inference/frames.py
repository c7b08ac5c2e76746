"""Boxes between network and image frames on the device, as `View` maps them on the host, to the bit.

So a detection's box, in the frame of the image as it is answered, goes back to the network for its mask without a
detour to the host that the device would have to wait for.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tis_ray.inference.staging import to_device
from tis_ray.views import SizeHW, View


class Frames:
    """The maps of N boxes, of which `counts` belong to each of `tiles`, views without a grid, one after the other."""

    def __init__(self, tiles: Sequence[View], image_hw: SizeHW, counts: Sequence[int], *, device: torch.device) -> None:
        rows = np.array([_row(tile, image_hw) for tile in tiles]).repeat(counts, axis=0)
        self._offset, self._factor, self._width, flip = to_device(rows, device).split([4, 4, 1, 1], dim=1)
        self._flip = flip > 0

    def to_image(self, boxes: Tensor) -> Tensor:
        """float32 (N, 4) of the network frames in that of the image."""
        return (self._mirrored(boxes) / self._factor + self._offset).float()

    def to_network(self, boxes: Tensor) -> Tensor:
        """float32 (N, 4) of the image frame in those of the network inputs."""
        return self._mirrored(((boxes - self._offset) * self._factor).float())

    def _mirrored(self, boxes: Tensor) -> Tensor:
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        width = self._width[:, 0].float()
        return torch.where(self._flip, torch.stack([width - x2, y1, width - x1, y2], dim=1), boxes)


def _row(tile: View, image_hw: SizeHW) -> list[float]:
    offset, factor, width = tile.frame(image_hw)
    return [*offset.tolist(), *factor.tolist(), width, float(tile.flip)]
