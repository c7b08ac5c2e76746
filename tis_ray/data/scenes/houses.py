"""Houses along the pavement: a front with rows of windows, a ground floor with shops, and a gable."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.light import Colour, Light
from tis_ray.data.scenes.street import Building
from tis_ray.data.scenes.stuff import BUILDING

_NEAR_M, _STOREY_M, _DEPTH_M = 1.2, 3.2, 14.0
_WALLS: tuple[Colour, ...] = (
    (186, 168, 142),
    (158, 96, 74),
    (200, 194, 182),
    (140, 132, 124),
    (172, 150, 118),
    (120, 124, 132),
    (206, 180, 150),
    (132, 84, 66),
    (174, 182, 186),
)
_SIGNS: tuple[Colour, ...] = (
    (170, 36, 36),
    (30, 80, 150),
    (40, 120, 80),
    (220, 170, 50),
    (60, 60, 64),
    (210, 210, 205),
)


class _Wall:
    """A vertical rectangle of the street: `a` and `b` are its ground corners (x, z); paints shares of it."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        camera: Camera,
        light: Light,
        a: tuple[float, float],
        b: tuple[float, float],
        height: float,
        scale: int,
    ) -> None:
        self.draw, self.camera, self.light, self.scale = draw, camera, light, scale
        self.a, self.b, self.height = np.array(a), np.array(b), height
        along = self.b - self.a
        normal = np.array([-along[1], 0.0, along[0]]) / max(float(np.hypot(*along)), 1e-9)
        eye = np.array([self.a[0], 0.0, self.a[1]])
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self.normal = normal if normal @ eye < 0 else -normal

    def add(
        self, s: NDArray[np.float64], h: NDArray[np.float64], colours: NDArray[np.float64], *, lit: bool = False
    ) -> None:
        """Rectangles from s[:, 0] to s[:, 1] (shares along) and h[:, 0] to h[:, 1] (metres up), each one colour."""
        self._parts.append((s, h, colours, np.full(len(s), lit)))

    def band(self, s: tuple[float, float], h: tuple[float, float], colour: Colour) -> None:
        """One rectangle."""
        self.add(np.array([s]), np.array([h]), np.array([colour], dtype=np.float64))

    def paint(self) -> None:
        """Paint what was added, in that order."""
        s, h, colours, lit = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        n = len(s)
        ends = self.a + s[..., None] * (self.b - self.a)  # (N, 2, 2) x, z
        corners = np.zeros((n, 4, 3))
        corners[:, :, 0], corners[:, :, 2] = ends[:, [0, 1, 1, 0], 0], ends[:, [0, 1, 1, 0], 1]
        corners[:, :, 1] = h[:, [0, 0, 1, 1]]
        depth = corners[:, :, 2].mean(axis=1)
        shaded = self.light.shade(colours, np.tile(self.normal, (n, 1)), depth)
        shaded[lit] = self.light.veil(colours[lit], depth[lit])
        pixels = self.camera.project(corners.reshape(-1, 3)) * self.scale
        for outline, (r, g, b) in zip(pixels.reshape(n, 8).tolist(), shaded.tolist(), strict=True):
            self.draw.polygon(outline, fill=(r, g, b))

    def outline(self) -> list[float]:
        """Its corners on the picture, x, y, x, y, ..., as `paint` places those of a band over all of it."""
        (ax, az), (bx, bz) = self.a, self.b
        corners = np.array([(ax, 0, az), (bx, 0, bz), (bx, self.height, bz), (ax, self.height, az)])
        return [float(place) for place in (self.camera.project(corners) * self.scale).ravel()]

    def widths_px(self, columns: int) -> float:
        """The width on the picture of one of `columns` at the far end."""
        far, near = max(self.a[1], self.b[1]), min(self.a[1], self.b[1])
        if far - near < 1e-6:
            return float(self.camera.focal_px * abs(self.b[0] - self.a[0]) / far / columns)
        return float(self.camera.focal_px * abs(self.a[0]) * (far - near) / columns / far**2)


def paint_house(
    draw: ImageDraw.ImageDraw,
    stuff: ImageDraw.ImageDraw,
    camera: Camera,
    light: Light,
    house: Building,
    wall_x: float,
    scale: int,
) -> None:
    """The front along the street and the gable that faces the camera, on the picture and on its map of stuff."""
    rng = np.random.default_rng(house.seed)
    colour = _WALLS[int(rng.integers(len(_WALLS)))]
    end = house.z + house.length
    if house.z > _NEAR_M + 1:
        out = wall_x + house.side * _DEPTH_M
        gable = _Wall(draw, camera, light, (wall_x, house.z), (out, house.z), house.height, scale)
        _facade(gable, rng, colour, _DEPTH_M, shops=False, lamps=light.lamps)
        stuff.polygon(gable.outline(), fill=BUILDING)
    if end > _NEAR_M + 1:
        start = max(house.z, _NEAR_M)
        front = _Wall(draw, camera, light, (wall_x, start), (wall_x, end), house.height, scale)
        _facade(front, rng, colour, end - start, shops=bool(rng.random() < 0.75), lamps=light.lamps)
        stuff.polygon(front.outline(), fill=BUILDING)


def _facade(wall: _Wall, rng: np.random.Generator, colour: Colour, length: float, *, shops: bool, lamps: bool) -> None:
    wall.band((0, 1), (0, wall.height), colour)
    dark: Colour = (int(colour[0] * 0.7), int(colour[1] * 0.7), int(colour[2] * 0.7))
    wall.band((0, 1), (wall.height - 0.5, wall.height), dark)
    first = _STOREY_M if shops else 0.0
    if shops:
        _shops(wall, rng, length)
    columns, storeys = max(int(length / rng.uniform(2.2, 3.4)), 1), int((wall.height - first - 0.6) / _STOREY_M)
    if storeys > 0:
        _windows(wall, rng, columns, storeys, first, lamps=lamps)
    wall.paint()


def _windows(wall: _Wall, rng: np.random.Generator, columns: int, storeys: int, first: float, *, lamps: bool) -> None:
    """A grid of panes; where they would be narrower than a pixel, one grey band for each storey."""
    if wall.widths_px(columns) < 0.8:
        columns = 1
    gap, low, high = rng.uniform(0.12, 0.3), rng.uniform(0.8, 1.2), rng.uniform(2.3, 2.8)
    column, storey = (grid.ravel() for grid in np.meshgrid(np.arange(columns), np.arange(storeys)))
    s = np.stack([(column + gap) / columns, (column + 1 - gap) / columns], axis=1)
    base = first + storey * _STOREY_M
    h = np.stack([base + low, base + high], axis=1)
    tone = rng.uniform(40, 105) + rng.uniform(-18, 18, len(s))
    colours = np.stack([tone, tone + 8, tone + 16], axis=1)
    glowing = rng.random(len(s)) < (0.35 if lamps else 0.02)
    wall.add(s[~glowing], h[~glowing], colours[~glowing])
    warm = np.array([236.0, 196.0, 120.0]) * rng.uniform(0.75, 1.05, (len(s), 1))
    wall.add(s[glowing], h[glowing], warm[glowing], lit=True)


def _shops(wall: _Wall, rng: np.random.Generator, length: float) -> None:
    count = max(int(length / rng.uniform(4, 7)), 1)
    for i in range(count):
        sign = _SIGNS[int(rng.integers(len(_SIGNS)))]
        wall.band(((i + 0.06) / count, (i + 0.94) / count), (0.3, 2.5), (46, 50, 56))
        wall.band(((i + 0.06) / count, (i + 0.94) / count), (2.55, 3.1), sign)
