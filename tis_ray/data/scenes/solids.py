"""Convex solids, their faces and what is painted on them: the material of which vehicles are built.

Local frame of a model, in metres: u forward along the vehicle, v to its right, h up from the ground.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas, Pen
from tis_ray.data.scenes.light import Colour, Light

Point = tuple[float, float, float]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Face:
    """A polygon; a lamp is not shaded and glows at dusk; `alpha` below 255 lets the background through."""

    points: list[Point]
    colour: Colour
    lamp: bool = False
    alpha: int = 255


class Solid:
    """Faces of one convex body in the order they are painted; solids of a lower `layer` are painted first."""

    def __init__(self, sides: dict[str, list[Point]], colour: Colour, *, layer: int = 0, labelled: bool = True) -> None:
        self.sides, self.layer, self.labelled = sides, layer, labelled
        self.faces = [Face(points, colour) for points in sides.values()]
        corners = np.array([point for points in sides.values() for point in points])
        self.centre = (corners.min(axis=0) + corners.max(axis=0)) / 2

    def patch(self, side: str, s: Range, t: Range, colour: Colour, *, lamp: bool = False) -> "Solid":
        """Paint the part `s` (along) by `t` (up), shares of 0..1, of a four-cornered side."""
        a, b, c, d = self.sides[side]

        def at(along: float, up: float) -> Point:
            share = (1 - along) * (1 - up), along * (1 - up), along * up, (1 - along) * up
            u, v, h = (share[0] * a[i] + share[1] * b[i] + share[2] * c[i] + share[3] * d[i] for i in range(3))
            return u, v, h

        corners = [at(s[0], t[0]), at(s[1], t[0]), at(s[1], t[1]), at(s[0], t[1])]
        self.faces.append(Face(corners, colour, lamp))
        return self

    def disc(self, v: float, u: float, h: float, radius: float, colour: Colour) -> "Solid":
        """Paint a disc on the side at `v`, such as a wheel."""
        self.faces.append(Face(_ring(u, v, h, radius, 14), colour))
        return self

    def quad(self, corners: list[Point], colour: Colour) -> "Solid":
        """Paint any polygon that lies on a side."""
        self.faces.append(Face(corners, colour))
        return self

    def sheer(self, alpha: int) -> "Solid":
        """Let the background through all faces so far, as between the spokes of a wheel."""
        self.faces = [Face(face.points, face.colour, face.lamp, alpha) for face in self.faces]
        return self


def block(
    u: Range,
    v: Range,
    h: Range,
    colour: Colour,
    *,
    lean: tuple[float, float, float] = (0, 0, 0),
    layer: int = 0,
    labelled: bool = True,
) -> Solid:
    """A box whose top is drawn in by `lean` metres at rear, front and both sides."""
    (u0, u1), (v0, v1), (h0, h1) = u, v, h
    rear, front, side = lean
    a, b, c, d = (u0, v0, h0), (u0, v1, h0), (u1, v1, h0), (u1, v0, h0)
    e, f = (u0 + rear, v0 + side, h1), (u0 + rear, v1 - side, h1)
    g, i = (u1 - front, v1 - side, h1), (u1 - front, v0 + side, h1)
    sides: dict[str, list[Point]] = {
        "top": [e, f, g, i],
        "rear": [a, b, f, e],
        "front": [c, d, i, g],
        "right": [b, c, g, f],
        "left": [a, d, i, e],
    }
    return Solid(sides, colour, layer=layer, labelled=labelled)


def prism(profile: Sequence[Range], v: Range, colour: Colour, *, layer: int = 0, labelled: bool = True) -> Solid:
    """The convex outline `profile` of (u, h) points, drawn out across `v`; edge i is the side named str(i)."""
    left = [(u, v[0], h) for u, h in profile]
    right = [(u, v[1], h) for u, h in profile]
    sides: dict[str, list[Point]] = {}
    for i in range(len(profile)):
        j = (i + 1) % len(profile)
        sides[str(i)] = [left[i], right[i], right[j], left[j]]
    sides["left"], sides["right"] = left, right
    return Solid(sides, colour, layer=layer, labelled=labelled)


def wheel(u: float, radius: float, v: Range, colour: Colour, *, layer: int = 0, corners: int = 14) -> Solid:
    """A wheel standing on the ground at `u`."""
    outline = [(point[0], point[2]) for point in _ring(u, 0.0, radius, radius, corners)]
    return prism(outline, v, colour, layer=layer)


def bar(start: Range, end: Range, thick: float, v: Range, colour: Colour, *, layer: int = 0) -> Solid:
    """A bar of thickness `thick` between two (u, h) points."""
    du, dh = end[0] - start[0], end[1] - start[1]
    length = max(float(np.hypot(du, dh)), 1e-6)
    nu, nh = -dh / length * thick / 2, du / length * thick / 2
    outline = [
        (start[0] + nu, start[1] + nh),
        (end[0] + nu, end[1] + nh),
        (end[0] - nu, end[1] - nh),
        (start[0] - nu, start[1] - nh),
    ]
    return prism(outline, v, colour, layer=layer)


def _ring(u: float, v: float, h: float, radius: float, corners: int) -> list[Point]:
    angles = np.arange(corners) * (2 * np.pi / corners)
    ring = zip((u + radius * np.cos(angles)).tolist(), (h + radius * np.sin(angles)).tolist(), strict=True)
    return [(x, v, y) for x, y in ring]


def paint_model(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    solids: Sequence[Solid],
    *,
    x: float,
    z: float,
    yaw: float,
    number: int,
) -> None:
    """Paint a vehicle that stands at (x, z) and heads `yaw` radians right of straight ahead, with its shadow."""
    turn = np.array([[np.sin(yaw), 0, np.cos(yaw)], [np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0]])
    place, eye = np.array([x, 0.0, z]), np.array([0.0, camera.height_m, 0.0])
    centres = np.array([solid.centre for solid in solids]) @ turn + place
    nearness = -np.linalg.norm(centres - eye, axis=1)
    order = sorted(range(len(solids)), key=lambda i: (solids[i].layer, nearness[i]))
    faces = [(face, i) for i in order for face in solids[i].faces]
    corners = np.array([point for face, _ in faces for point in face.points]) @ turn + place
    firsts = np.cumsum([0] + [len(face.points) for face, _ in faces])
    a = corners[firsts[:-1]]
    normals = np.cross(corners[firsts[:-1] + 1] - a, corners[firsts[:-1] + 2] - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    outward = ((a - centres[[i for _, i in faces]]) * normals).sum(axis=1)
    normals *= np.where(outward < 0, -1.0, 1.0)[:, None]
    shown = ((a - eye) * normals).sum(axis=1) < 0
    colours = np.array([face.colour for face, _ in faces], dtype=np.float64)
    lamps = np.array([face.lamp for face, _ in faces])
    lit = light.shade(colours, normals, z)
    lit[lamps] = light.veil(colours[lamps] * (1.0 if light.lamps else 0.85), z)
    pixels = camera.project(corners)
    shadow = _shadow(camera, np.array([point for face, _ in faces for point in face.points]), turn, place)

    def paint(pen: Pen) -> None:
        for points, alpha in shadow:
            pen.polygon(points, (12, 12, 16), alpha=alpha, mask=False)
        for k in np.flatnonzero(shown).tolist():
            face, i = faces[k]
            r, g, b = lit[k].tolist()
            outline = pixels[firsts[k] : firsts[k + 1]]
            pen.polygon(outline, (r, g, b), alpha=face.alpha, labelled=solids[i].labelled)
        if light.lamps:
            _halos(pen, pixels, firsts, lit, lamps & shown)

    everything = np.concatenate([pixels, *(points for points, _ in shadow)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    canvas.paint((low[0], low[1], high[0], high[1]), number, paint)


def _shadow(
    camera: Camera, local: NDArray[np.float64], turn: NDArray[np.float64], place: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], int]]:
    """The dark place under a model: its footprint, the edge of it softened by three layers."""
    low, high = local.min(axis=0), local.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    half[1] = min(half[1], half[0] * 0.5)
    layers = []
    for grown, alpha in ((1.12, 50), (1.04, 60), (0.94, 80)):
        ground = [(middle[0] + i * half[0] * grown, middle[1] + k * half[1] * grown, 0.0) for i, k in _CORNERS]
        points = np.array(ground) @ turn + place
        points[:, 2] = np.maximum(points[:, 2], 1.0)
        layers.append((camera.project(points), alpha))
    return layers


_CORNERS = ((-1, -0.9), (-0.85, -1), (0.85, -1), (1, -0.9), (1, 0.9), (0.85, 1), (-0.85, 1), (-1, 0.9))


def _halos(
    pen: Pen,
    pixels: NDArray[np.float64],
    firsts: NDArray[np.int64],
    lit: NDArray[np.uint8],
    glowing: NDArray[np.bool_],
) -> None:
    for k in np.flatnonzero(glowing).tolist():
        outline = pixels[firsts[k] : firsts[k + 1]]
        (x, y), reach = outline.mean(axis=0).tolist(), float(np.ptp(outline, axis=0).max())
        r, g, b = lit[k].tolist()
        for share in (0.5, 0.75, 1.0):
            pen.ellipse(x, y, reach * share, reach * share, (r, g, b), alpha=20, mask=False)
