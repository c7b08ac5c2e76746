"""Convex solids, their faces and what is painted on them: the material of which vehicles are built.

Local frame of a model, in metres: u forward along the vehicle, v to its right, h up from the ground.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tis_ray.data.scenes.light import Colour

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
