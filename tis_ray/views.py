"""A view is one way a member looks at an image: at one scale, flipped or not, whole or cropped.

It owns its forward and its inverse together, so that nothing else in tis-ray knows how to undo a flip.
Frames: the *image* frame is the original picture; the *network* frame is the resized (and mirrored) crop that
the detector sees. Factors come from the actual rounded sizes, not from the nominal scale.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops import boxes as box_ops
from tis_ray.ops.boxes import Boxes

SizeHW = tuple[int, int]
Scalar = TypeVar("Scalar", bound=np.generic)


def resized_hw(size_hw: SizeHW, short_edge: int, max_long_edge: int | None = None) -> SizeHW:
    """Size whose shorter edge is `short_edge`, less where the longer one would pass `max_long_edge`."""
    short, long = min(size_hw), max(size_hw)
    factor = short_edge / short
    if max_long_edge is not None:
        factor = min(factor, max_long_edge / long)
    height, width = (max(1, round(edge * factor)) for edge in size_hw)
    return height, width


@dataclass(frozen=True, slots=True, order=True)
class View:
    """One test-time variant. Ordering and equality follow the fields, so any set of views has one order.

    `scale` is the shorter edge of the network input in pixels and `max_long_edge` caps the longer one. `crop` is
    (x1, y1, x2, y2) in whole pixels of the image, or () for the whole image; `tile` is (width, height, overlap) of a
    grid of tiles over the whole image, or (). `crop_name` is what the ensemble calls the crop or the grid.
    `gives_way` says that another view of the ensemble looks across the edges at which this one cuts the image, so that
    boxes cut there are left to it.
    """

    member: str
    scale: int
    flip: bool = False
    crop: tuple[int, ...] = ()
    max_long_edge: int | None = None
    crop_name: str = ""
    tile: tuple[int, ...] = ()
    gives_way: bool = False

    @property
    def key(self) -> str:
        """Member, scale and crop, what a view shares with its mirror image: `r50@800`, `r50@720.strip`."""
        return f"{self.member}@{self.scale}" + (f".{self.crop_name}" if self.crop_name else "")

    @property
    def name(self) -> str:
        """Unique readable name, e.g. `r50@720.strip/flip/crop=0,1560,3384,2280`."""
        flip = "/flip" if self.flip else ""
        crop = f"/crop={','.join(map(str, self.crop))}" if self.crop else ""
        tile = f"/tiles={','.join(map(str, self.tile))}" if self.tile else ""
        return f"{self.key}{flip}{crop}{tile}"

    def tiles(self, image_hw: SizeHW) -> tuple["View", ...]:
        """What this view looks at in an image of this size, as views without a grid: none where its crop misses it.

        The tiles of a grid come row by row. All are equally large, `tile` or the image where that is smaller; they
        spread evenly and neighbours share at least the overlap. A view without a grid is its own only tile.
        """
        if not self.tile:
            return (self,) if _meets(self.crop, image_hw) else ()
        width, height, overlap = self.tile
        columns, rows = _spread(image_hw[1], width, overlap), _spread(image_hw[0], height, overlap)
        return tuple(replace(self, crop=(x1, y1, x2, y2), tile=()) for y1, y2 in rows for x1, x2 in columns)

    def looks_across(self, other: "View") -> bool:
        """Whether this view shows what lies beyond the edges at which `other` cuts the image.

        It does where `other` is a crop or a grid, and this view the whole image, a grid of larger tiles, or, for a
        crop, any grid or a crop around it. A view that cuts nothing has no such edges.
        """
        if not other.crop and not other.tile:
            return False
        if not self.crop and not self.tile:
            return True
        if other.tile:
            return _encloses((0, 0, *self.tile[:2]), (0, 0, *other.tile[:2])) if self.tile else False
        return bool(self.tile) or _encloses(self.crop, other.crop)

    def region(self, image_hw: SizeHW) -> tuple[int, int, int, int]:
        """The crop (x1, y1, x2, y2) clipped to the image; the whole image where there is no crop.

        This and what follows are about one piece of the image: raises `InputError` for a grid, whose `tiles` are
        asked one by one, and for a crop that misses the image, which has no `tiles` there.
        """
        height, width = image_hw
        if self.tile:
            raise InputError(f"view {self.name}: expected one of its tiles; got the grid")
        if not _meets(self.crop, image_hw):
            raise InputError(
                f"crop of view {self.name}: expected a box that meets the {width}x{height} image; got {self.crop}"
            )
        if not self.crop:
            return 0, 0, width, height
        x1, y1, x2, y2 = self.crop
        return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)

    def network_hw(self, image_hw: SizeHW) -> SizeHW:
        """Height and width of the network input for an image of this size.

        A crop of which the image holds a part alone is resized by the factors of the whole crop: the sliver of it in a
        slightly smaller image would otherwise be blown up beyond all bounds.
        """
        x1, y1, x2, y2 = self.region(image_hw)
        if not self.crop:
            return resized_hw(image_hw, self.scale, self.max_long_edge)
        full_hw = self.crop[3] - self.crop[1], self.crop[2] - self.crop[0]
        height, width = resized_hw(full_hw, self.scale, self.max_long_edge)
        return max(1, round((y2 - y1) * height / full_hw[0])), max(1, round((x2 - x1) * width / full_hw[1]))

    def resize_factor(self, image_hw: SizeHW) -> float | None:
        """Network pixels per image pixel, the geometric mean of both axes after rounding; a grid's is its tiles'.

        None where the view looks at nothing, because its crop misses the image.
        """
        tiles = self.tiles(image_hw)
        if not tiles:
            return None
        x1, y1, x2, y2 = tiles[0].region(image_hw)
        height, width = tiles[0].network_hw(image_hw)
        return float(np.sqrt(height * width / ((y2 - y1) * (x2 - x1))))

    def boxes_to_network(self, boxes: Boxes, image_hw: SizeHW) -> Boxes:
        """Boxes (N, 4) from the image frame to the network frame."""
        offset, factor, width = self.frame(image_hw)
        moved = np.asarray((boxes - offset) * factor, dtype=np.float32)
        return box_ops.hflip(moved, width) if self.flip else moved

    def boxes_to_image(self, boxes: Boxes, image_hw: SizeHW) -> Boxes:
        """Boxes (N, 4) from the network frame to the image frame: flip undone first, then scale, then crop."""
        offset, factor, width = self.frame(image_hw)
        moved = box_ops.hflip(boxes, width) if self.flip else boxes
        return np.asarray(moved / factor + offset, dtype=np.float32)

    def patches_to_image(self, patches: NDArray[Scalar]) -> NDArray[Scalar]:
        """Mask patches (N, M, M) of network boxes, as patches of the same boxes in the image frame.

        Patches live in their box, so scale and crop leave them alone and a flip reverses the last axis.
        """
        return np.ascontiguousarray(patches[..., ::-1]) if self.flip else patches

    def frame(self, image_hw: SizeHW) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Offset (4,) in image px, factors (4,) and network width: a box is (box - offset) * factor, then mirrored."""
        x1, y1, x2, y2 = self.region(image_hw)
        height, width = self.network_hw(image_hw)
        factor_x, factor_y = width / (x2 - x1), height / (y2 - y1)
        offset = np.array([x1, y1, x1, y1], dtype=np.float64)
        return offset, np.array([factor_x, factor_y, factor_x, factor_y]), float(width)


def _meets(crop: tuple[int, ...], image_hw: SizeHW) -> bool:
    """Whether the crop shares at least a pixel with the image; no crop is the whole image."""
    if not crop:
        return True
    (x1, y1, x2, y2), (height, width) = crop, image_hw
    return max(x1, 0) < min(x2, width) and max(y1, 0) < min(y2, height)


def _encloses(outer: tuple[int, ...], inner: tuple[int, ...]) -> bool:
    """Whether the box `outer` holds the other one and more; neither where one is ()."""
    if not outer or not inner or outer == inner:
        return False
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def _spread(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of the fewest stretches of `side` that cover `length` and share at least `overlap`."""
    side = min(side, length)
    spare = length - side
    count = 1 + (-(-spare // (side - overlap)) if spare else 0)
    starts = [i * spare // max(count - 1, 1) for i in range(count)]
    return [(start, start + side) for start in starts]
