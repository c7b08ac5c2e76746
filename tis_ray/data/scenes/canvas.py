"""The picture being painted, with the instance number of every pixel.

Each object is painted on an enlarged copy of its own region and shrunk again, which antialiases it against
what lies behind; a pixel belongs to the object that covers at least half of it and was painted last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tis_ray.data.scenes.light import Colour

Region = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels
NO_STUFF = 255  # what no name is known for
_HALF = 128  # of 255: the coverage from which a pixel belongs to an object


class Pen:
    """Paints shapes, given in the image frame, on the enlarged region; labelled shapes enter the mask."""

    def __init__(self, enlarged: Image.Image, region: Region, scale: int) -> None:
        self.origin, self.scale = np.array(region[:2], dtype=np.float64), scale
        self.own = Image.new("L", enlarged.size)
        self.cover = Image.new("L", enlarged.size)
        self._solid, self._sheer = ImageDraw.Draw(enlarged), ImageDraw.Draw(enlarged, "RGBA")
        self._masks = ImageDraw.Draw(self.own), ImageDraw.Draw(self.cover)

    def polygon(
        self, points: Any, colour: Colour, *, alpha: int = 255, labelled: bool = True, mask: bool = True
    ) -> None:
        """A filled polygon (K, 2); with `mask=False` it only tints, as a shadow does."""
        corners = self._place(points)
        if alpha == 255:
            self._solid.polygon(corners, fill=colour)
        else:
            self._sheer.polygon(corners, fill=(*colour, alpha))
        if mask:
            self._masks[0].polygon(corners, fill=255 if labelled else 0)
            self._masks[1].polygon(corners, fill=255)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, *, alpha: int = 255, mask: bool = True
    ) -> None:
        """A filled ellipse about (x, y)."""
        box = self._place([(x - rx, y - ry), (x + rx, y + ry)])
        if alpha == 255:
            self._solid.ellipse(box, fill=colour)
        else:
            self._sheer.ellipse(box, fill=(*colour, alpha))
        if mask:
            self._masks[0].ellipse(box, fill=255)
            self._masks[1].ellipse(box, fill=255)

    def limb(self, points: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        """A thick line with round joints."""
        path, thick = self._place(points), max(round(width * self.scale), 1)
        for draw, fill in ((self._solid, colour), (self._masks[0], 255), (self._masks[1], 255)):
            draw.line(path, fill=fill, width=thick, joint="curve")
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, colour)

    def _place(self, points: Any) -> list[tuple[float, float]]:
        placed = (np.asarray(points, dtype=np.float64) - self.origin) * self.scale
        return [(x, y) for x, y in placed.tolist()]


class Canvas:
    """`picture` RGB and `ids` int32 (H, W): 0 background, otherwise the number of the instance seen there.

    stuff: uint8 (H, W) what shows there where there is no instance
    """

    def __init__(self, picture: Image.Image, stuff: NDArray[np.uint8] | None = None) -> None:
        self.picture = picture
        self.stuff = np.full((picture.height, picture.width), NO_STUFF, np.uint8) if stuff is None else stuff
        self.ids: NDArray[np.int32] = np.zeros((picture.height, picture.width), dtype=np.int32)
        self.regions: dict[int, Region] = {}

    def paint(
        self,
        bounds: tuple[float, float, float, float],
        number: int,
        paint: Callable[[Pen], None],
        *,
        stuff: int = NO_STUFF,
    ) -> None:
        """Call `paint` with a pen for the part of `bounds` inside the frame; `number` 0 is unlabelled, perhaps `stuff`.

        An instance may be painted part by part.
        """
        region = self._inside(bounds)
        if region is None:
            return
        x1, y1, x2, y2 = region
        scale = _enlargement(max(x2 - x1, y2 - y1))
        enlarged = self.picture.crop(region).resize(((x2 - x1) * scale, (y2 - y1) * scale), Image.Resampling.NEAREST)
        pen = Pen(enlarged, region, scale)
        paint(pen)
        self.picture.paste(enlarged.reduce(scale), (x1, y1))
        seen = self.ids[y1:y2, x1:x2]
        covered = np.asarray(pen.cover.reduce(scale)) >= _HALF
        seen[covered] = 0
        self.stuff[y1:y2, x1:x2][covered] = stuff
        if number:
            seen[np.asarray(pen.own.reduce(scale)) >= _HALF] = number
            self.regions[number] = _union(self.regions.get(number, region), region)

    def _inside(self, bounds: tuple[float, float, float, float]) -> Region | None:
        x1, y1 = max(int(np.floor(bounds[0])), 0), max(int(np.floor(bounds[1])), 0)
        x2 = min(int(np.ceil(bounds[2])) + 1, self.picture.width)
        y2 = min(int(np.ceil(bounds[3])) + 1, self.picture.height)
        return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _union(a: Region, b: Region) -> Region:
    """The smallest region that holds both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _enlargement(side_px: int) -> int:
    """More for the small, whose edges are most of what is seen of them."""
    for limit, scale in ((64, 6), (160, 4), (400, 3), (2000, 2)):
        if side_px <= limit:
            return scale
    return 1
