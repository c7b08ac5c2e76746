"""Mask training targets sampled from ground-truth crops, never from full-frame masks.

torchvision keeps an (N, H, W) stack of masks and pools it with RoIAlign. `PackedCrops` keeps the crops of one image
in one flat tensor instead, and `sample` reads from it the very points that RoIAlign would average: memory follows
the objects' area, not N times the frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from tis_ray.masks import CropMasks

# Points read at once in `sample`; bounds its memory, at about 200 bytes a point, whatever the RoIs' sizes.
MAX_POINTS = 1_000_000


@dataclass(frozen=True, slots=True)
class PackedCrops:
    """G crops: `pixels` uint8 (P,), `starts` int64 (G,), `frames` int64 (G, 4) as x, y, width, height.

    `areas` int64 (G,) is each mask's number of set pixels.
    """

    pixels: Tensor
    starts: Tensor
    frames: Tensor
    areas: Tensor
    image_hw: tuple[int, int]

    @classmethod
    def pack(cls, masks: CropMasks, image_hw: tuple[int, int]) -> Self:
        """Pack the crops of one image whose frame is `image_hw`."""
        flat = [np.ascontiguousarray(crop).reshape(-1) for crop in masks.crops]
        sizes = np.array([crop.size for crop in flat], dtype=np.int64)
        shapes = np.array([crop.shape[::-1] for crop in masks.crops], dtype=np.int64).reshape(-1, 2)
        return cls(
            torch.from_numpy(np.concatenate(flat) if flat else np.zeros(0, np.uint8)),
            torch.from_numpy(np.cumsum(sizes) - sizes),
            torch.from_numpy(np.concatenate([masks.offsets.astype(np.int64), shapes], axis=1)),
            torch.from_numpy(masks.areas()),
            image_hw,
        )

    def to(self, device: torch.device) -> "PackedCrops":
        """The same crops on another device."""
        return PackedCrops(
            self.pixels.to(device, non_blocking=True),
            self.starts.to(device, non_blocking=True),
            self.frames.to(device, non_blocking=True),
            self.areas.to(device, non_blocking=True),
            self.image_hw,
        )

    def points(self, rois: Tensor, size: int) -> Tensor:
        """How many points `sample` reads for each RoI (R, 4), int64 (R,)."""
        return _grid(rois, size).prod(dim=1) * size * size

    def sample(self, rois: Tensor, crop_index: Tensor, size: int, *, points: int | None = None) -> Tensor:
        """Targets float (R, size, size) in 0..1: crop `crop_index[r]` averaged over each cell of RoI r.

        rois: (R, 4) xyxy in the image frame; points: the sum of what `points` says of them, where it is known, so that
        the device is not waited for. Equals torchvision's `roi_align(masks, rois, size)` on full masks (adaptive
        sampling, unaligned).
        """
        return self._means(rois, crop_index, size, points, self._bilinear)

    def inside(self, rois: Tensor, crop_index: Tensor, size: int, *, points: int | None = None) -> Tensor:
        """The share (R,) in 0..1 of the area of crop `crop_index[r]` that lies in RoI r; 0 of an empty one.

        Arguments as of `sample`. It is read at the same points, of the pixel that each lies in: pixel x reaches from x
        to x + 1 here, as boxes have it, where `sample` has its value at x.
        """
        shares = self._means(rois, crop_index, size, points, self._nearest).mean(dim=(1, 2))
        sides = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
        return (shares * sides.prod(dim=1) / self.areas[crop_index].clamp(min=1)).clamp(max=1)

    def _means(
        self,
        rois: Tensor,
        crop_index: Tensor,
        size: int,
        points: int | None,
        value: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The mean (R, size, size) over each cell of what `value` reads at x, y (P,) of a crop (P,)."""
        if len(rois) == 0 or len(self.pixels) == 0:
            return rois.new_zeros((len(rois), size, size))
        grid = _grid(rois, size)  # (R, 2) points per cell, x and y
        per_cell = grid.prod(dim=1)
        ends = (per_cell * size * size).cumsum(0)
        total = int(ends[-1]) if points is None else points
        sums = rois.new_zeros(len(rois) * size * size)
        for first in range(0, total, MAX_POINTS):
            point = torch.arange(first, min(first + MAX_POINTS, total), device=rois.device)
            roi = torch.searchsorted(ends, point, right=True)
            nth = point - (ends - per_cell * size * size)[roi]
            cell, within = nth // per_cell[roi], nth % per_cell[roi]
            x, y = self._places(rois[roi], grid[roi], cell, within, size)
            sums.index_add_(0, roi * size * size + cell, value(x, y, crop_index[roi]))
        return sums.view(-1, size, size) / per_cell[:, None, None]

    @staticmethod
    def _places(rois: Tensor, grid: Tensor, cell: Tensor, within: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """x and y (P,) of point `within` of cell `cell` of each point's RoI."""
        step = (rois[:, 2:] - rois[:, :2]).clamp(min=1) / size  # (P, 2) sides of a cell
        corner = rois[:, :2] + torch.stack([cell % size, cell // size], dim=1) * step
        nth = torch.stack([within % grid[:, 0], within // grid[:, 0]], dim=1)
        return (corner + (nth + 0.5) * step / grid).unbind(dim=1)

    def _bilinear(self, x: Tensor, y: Tensor, crop_index: Tensor) -> Tensor:
        """Mask values at x, y; beyond the image by more than a pixel 0, within that pixel the border's value."""
        height, width = self.image_hw
        inside = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        left, top = x.floor().long(), y.floor().long()
        share_x, share_y = x - left, y - top
        right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
        upper = self._pixel(left, top, crop_index) * (1 - share_x) + self._pixel(right, top, crop_index) * share_x
        lower = self._pixel(left, bottom, crop_index) * (1 - share_x) + self._pixel(right, bottom, crop_index) * share_x
        return (upper * (1 - share_y) + lower * share_y) * inside

    def _nearest(self, x: Tensor, y: Tensor, crop_index: Tensor) -> Tensor:
        """The pixel that x, y lies in; 0 beyond the image."""
        return self._pixel(x.floor().long(), y.floor().long(), crop_index).to(x.dtype)

    def _pixel(self, x: Tensor, y: Tensor, crop_index: Tensor) -> Tensor:
        x0, y0, width, height = self.frames[crop_index].unbind(dim=1)
        column, row = x - x0, y - y0
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = self.starts[crop_index] + row * width + column
        return self.pixels[torch.where(inside, place, 0)] * inside


def _grid(rois: Tensor, size: int) -> Tensor:
    """Points per cell along x and y, int64 (R, 2)."""
    return ((rois[:, 2:] - rois[:, :2]).clamp(min=1) / size).ceil().long()
