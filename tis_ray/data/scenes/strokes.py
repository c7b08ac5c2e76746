"""Long thin bodies as strokes between points of the street, painted in small squares: their boxes are mostly air."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas, Pen
from tis_ray.data.scenes.light import Colour, Light

_TILE = 64
_STEP = 24.0  # pixels of a long stroke that are painted as one piece
_LEAST_PX = 1.7  # what is narrower would leave gaps in the mask
_NEAREST_M = 0.8
_SHADE, _SHINE = 0.72, 1.2  # of the dark edge and the bright middle of something round


class Strokes:
    """Strokes of one object, painted in the order in which they were drawn."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera, self.light = camera, light
        self._pieces: list[tuple[NDArray[np.float64], Colour, int, bool]] = []  # corners (4, 2), alpha, in the mask

    def draw(self, points: Any, width_m: float, colour: Colour, *, strength: float = 0.9, round_: bool = False) -> None:
        """A stroke through `points` (K, 3), as wide as it looks at each; `round_` shades it as a tube."""
        path, width = self._seen(points, width_m)
        if len(path) < 2:
            return
        depth = float(np.mean(np.asarray(points)[:, 2]))
        tones = [(1.0, 0.0, strength)]
        if round_ and width.max() >= 3:
            tones = [(1.0, 0.0, strength * _SHADE), (0.72, -0.1, strength), (0.28, -0.16, strength * _SHINE)]
        for share, aside, bright in tones:
            tone = self.light.flat(colour, depth, strength=bright)
            self._add(path, width * share, width * aside, tone, 255, mask=share == 1.0)

    def shade(self, points: Any, width_m: float, *, alpha: int = 70) -> None:
        """A soft shadow along `points`, which belongs to nothing."""
        path, width = self._seen(points, width_m)
        if len(path) > 1:
            self._add(path, width, width * 0, (12, 12, 16), alpha, mask=False)

    def paint(self, canvas: Canvas, number: int) -> None:
        """Paint what was drawn as the instance `number`."""
        if not self._pieces:
            return
        corners = np.stack([piece[0] for piece in self._pieces])
        low = np.floor(corners.min(axis=1) / _TILE).astype(int)
        high = np.floor(corners.max(axis=1) / _TILE).astype(int)
        columns, rows = (-(-side // _TILE) for side in canvas.picture.size)
        low, high = np.maximum(low, 0), np.minimum(high, (columns - 1, rows - 1))
        for row in range(low[:, 1].min(), high[:, 1].max() + 1):
            in_row = (low[:, 1] <= row) & (row <= high[:, 1])
            for column in range(columns):
                here = np.flatnonzero(in_row & (low[:, 0] <= column) & (column <= high[:, 0])).tolist()
                if here:
                    x, y = column * _TILE, row * _TILE
                    bounds = (x, y, x + _TILE - 1, y + _TILE - 1)  # the canvas takes the last pixel in
                    canvas.paint(bounds, number, partial(self._paint, here))

    def _paint(self, chosen: Sequence[int], pen: Pen) -> None:
        for i in chosen:
            corners, colour, alpha, mask = self._pieces[i]
            pen.polygon(corners, colour, alpha=alpha, mask=mask)

    def _seen(self, points: Any, width_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (K, 2) of what lies before the camera, and widths (K,) in pixels."""
        places = np.asarray(points, dtype=np.float64)
        if places[:, 2].min() <= _NEAREST_M:  # cut off about there
            at = np.linspace(0, len(places) - 1, 24 * len(places))
            places = np.stack([np.interp(at, np.arange(len(places)), column) for column in places.T], axis=1)
            places = places[places[:, 2] > _NEAREST_M]
        if len(places) == 0:
            return np.zeros((0, 2)), np.zeros(0)
        return self.camera.project(places), np.maximum(width_m * self.camera.focal_px / places[:, 2], _LEAST_PX)

    def _add(
        self,
        path: NDArray[np.float64],
        width: NDArray[np.float64],
        aside: NDArray[np.float64],
        colour: Colour,
        alpha: int,
        *,
        mask: bool,
    ) -> None:
        """Quadrilaterals along `path`, moved `aside` pixels down and right, each reaching a little into the next."""
        path = path + aside[:, None]
        lengths = np.hypot(*np.diff(path, axis=0).T)
        counts = np.maximum(np.ceil(lengths / _STEP), 1).astype(int)
        segment = np.repeat(np.arange(len(counts)), counts)
        nth = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)
        share = np.stack([nth, nth + 1], axis=1) / counts[segment, None]  # where a piece begins and ends
        steps, widths = np.diff(path, axis=0)[segment], np.diff(width)[segment]
        along = steps / np.maximum(lengths[segment, None], 1e-6)
        ends = path[segment, None] + steps[:, None] * share[..., None]
        wide = width[segment, None] + widths[:, None] * share
        if alpha == 255:
            ends[:-1, 1] += along[:-1] * np.minimum(wide[:-1, 1] / 3, 3.0)[:, None]
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)[:, None] * wide[..., None] / 2
        corners = np.concatenate([ends + across, (ends - across)[:, ::-1]], axis=1)
        self._pieces += [(one, colour, alpha, mask) for one in corners]
