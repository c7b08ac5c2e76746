"""Ground truth masks: exact pixels, each a crop of its own size at a whole-pixel place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.masks.index import Index
from tis_ray.ops import rle as rle_ops
from tis_ray.ops import turn
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.nearest import nearest_sources
from tis_ray.ops.rle import Rle


@dataclass(frozen=True, slots=True, eq=False)
class CropMasks:
    """N exact masks: `crops` uint8 (h_i, w_i) of 0 and 1, top-left pixels at `offsets` int32 (N, 2) x, y.

    Places are whole pixels of the image frame. A crop of size (0, 0) is a mask without pixels.
    """

    offsets: NDArray[np.int32]
    crops: tuple[NDArray[np.uint8], ...]

    def __post_init__(self) -> None:
        if self.offsets.shape != (len(self.crops), 2):
            raise InputError(f"offsets: expected shape ({len(self.crops)}, 2); got {self.offsets.shape}")

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: Index) -> "CropMasks":
        chosen = np.arange(len(self))[index]
        return CropMasks(self.offsets[chosen], tuple(self.crops[i] for i in chosen))

    @staticmethod
    def from_rle(rles: Sequence[Rle]) -> "CropMasks":
        """The smallest crop of each RLE."""
        decoded = [rle_ops.decode_crop(rle) for rle in rles]
        offsets = np.array([offset for _, offset in decoded], dtype=np.int32).reshape(-1, 2)
        return CropMasks(offsets, tuple(crop for crop, _ in decoded))

    def to_rle(self, height: int, width: int) -> list[Rle]:
        """COCO RLEs in an image of this size."""
        return rle_ops.encode_crops(self.crops, self.offsets, height, width)

    def areas(self) -> NDArray[np.int64]:
        """Number of set pixels of each mask, (N,)."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], dtype=np.int64)

    def boxes(self) -> Boxes:
        """The crops' frames as xyxy boxes (N, 4); tight where the crops are."""
        sizes = np.array([crop.shape[::-1] for crop in self.crops], dtype=np.float32).reshape(-1, 2)
        corners = self.offsets.astype(np.float32)
        return np.concatenate([corners, corners + sizes], axis=1)

    def hflip(self, width: int) -> "CropMasks":
        """The masks in the image mirrored about the vertical axis."""
        widths = np.array([crop.shape[1] for crop in self.crops], dtype=np.int32)
        offsets = np.stack([width - self.offsets[:, 0] - widths, self.offsets[:, 1]], axis=1)
        return CropMasks(offsets.astype(np.int32), tuple(np.ascontiguousarray(crop[:, ::-1]) for crop in self.crops))

    def crop(self, box: tuple[int, int, int, int]) -> "CropMasks":
        """The parts inside `box` (x1, y1, x2, y2), in the frame whose origin is the box's corner."""
        x1, y1, x2, y2 = box
        parts, offsets = [], []
        for part, (x, y) in zip(self.crops, self.offsets, strict=True):
            left, top = max(x1 - int(x), 0), max(y1 - int(y), 0)
            right, bottom = min(x2 - int(x), part.shape[1]), min(y2 - int(y), part.shape[0])
            parts.append(part[top : max(bottom, top), left : max(right, left)])
            offsets.append((max(int(x) - x1, 0), max(int(y) - y1, 0)))
        return CropMasks(np.array(offsets, dtype=np.int32).reshape(-1, 2), tuple(parts))

    def tight(self) -> "CropMasks":
        """The same masks as their smallest crops; one without pixels becomes a crop (0, 0) where it was."""
        parts, offsets = [], []
        for part, (x, y) in zip(self.crops, self.offsets, strict=True):
            rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
            if not len(rows):
                rows, columns = np.array([0, -1]), np.array([0, -1])
            parts.append(part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
            offsets.append((x + columns[0], y + rows[0]))
        return CropMasks(np.array(offsets, dtype=np.int32).reshape(-1, 2), tuple(parts))

    def shifted(self, x: int, y: int) -> "CropMasks":
        """The masks in a frame in which everything lies `x` pixels further right and `y` further down."""
        return CropMasks(self.offsets + np.array([x, y], dtype=np.int32), self.crops)

    @staticmethod
    def concatenate(parts: Sequence["CropMasks"]) -> "CropMasks":
        """All masks in order."""
        offsets = [np.empty((0, 2), np.int32), *(part.offsets for part in parts)]
        return CropMasks(np.concatenate(offsets), tuple(crop for part in parts for crop in part.crops))

    def rotated(self, degrees: float, size_hw: tuple[int, int]) -> "CropMasks":
        """The masks after the image of height and width `size_hw` is turned counter-clockwise about its middle.

        Each pixel shows the old one that its centre came from; what turns out of the image is cut off.
        """
        turned = [
            turn.turned_crop(part, (int(x), int(y)), degrees, size_hw)
            for part, (x, y) in zip(self.crops, self.offsets, strict=True)
        ]
        offsets = np.array([offset for _, offset in turned], dtype=np.int32).reshape(-1, 2)
        return CropMasks(offsets, tuple(crop for crop, _ in turned))

    def resized(self, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> "CropMasks":
        """The masks after the image is resized: new pixel i shows the old one at (i + 0.5) * old / new.

        The same pixels as resizing the full mask with `torch.nn.functional.interpolate(mode="nearest-exact")`.
        """
        rows, columns = nearest_sources(from_hw[0], to_hw[0]), nearest_sources(from_hw[1], to_hw[1])
        parts, offsets = [], []
        for part, (x, y) in zip(self.crops, self.offsets, strict=True):
            top, bottom = np.searchsorted(rows, [y, y + part.shape[0]])
            left, right = np.searchsorted(columns, [x, x + part.shape[1]])
            parts.append(part[np.ix_(rows[top:bottom] - y, columns[left:right] - x)])
            offsets.append((left, top))
        return CropMasks(np.array(offsets, dtype=np.int32).reshape(-1, 2), tuple(parts))
