"""Cables, poles, ladders, cranes, barriers and hoses: what is long and thin and fills little of its box."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas
from tis_ray.data.scenes.layout import Thing
from tis_ray.data.scenes.light import Colour, Light
from tis_ray.data.scenes.strokes import Strokes

Point = NDArray[np.float64]  # (3,) X, Y, Z in metres
SPAN_M = 22.0  # between the poles that carry a cable
_RIGHT, _UP = np.eye(3)[0], np.eye(3)[1]

_WIRES: tuple[Colour, ...] = ((28, 28, 32), (28, 28, 32), (52, 54, 60), (96, 98, 104), (196, 92, 30))
_POLES: tuple[Colour, ...] = ((112, 84, 60), (86, 70, 56), (150, 150, 146), (168, 172, 178), (206, 170, 40))
_LADDERS: tuple[Colour, ...] = ((196, 200, 206), (176, 134, 84), (222, 140, 30), (206, 60, 40), (70, 110, 160))
_CRANES: tuple[Colour, ...] = ((232, 178, 24), (214, 60, 36), (236, 236, 232), (230, 120, 24), (58, 110, 170))
_HOSES: tuple[Colour, ...] = (
    (200, 40, 34),
    (226, 176, 40),
    (40, 44, 50),
    (58, 92, 160),
    (190, 184, 172),
    (60, 140, 80),
)
_STRIPES: tuple[tuple[Colour, Colour], ...] = (
    ((204, 32, 34), (236, 236, 232)),
    ((204, 32, 34), (236, 236, 232)),
    ((228, 186, 30), (34, 34, 36)),
    ((226, 110, 30), (236, 236, 232)),
)


def paint_thin(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, thing: Thing, *, number: int
) -> None:
    """Paint one long thin thing; a cable and a hose lie between the ends of its span, the others stand at its place."""
    strokes = Strokes(camera, light)
    PAINTERS[thing.kind](strokes, rng, thing)
    strokes.paint(canvas, number)


def _cable(strokes: Strokes, rng: np.random.Generator, thing: Thing) -> None:
    """Sags from pole to pole along the street, or once across it."""
    x1, x2, z1, z2 = _ends(thing)
    length = float(np.hypot(x2 - x1, z2 - z1))
    fields = max(round(length / SPAN_M), 1) if x1 == x2 else 1
    t = np.linspace(0, 1, 20 * fields + 1)
    within = (t * fields) % 1
    sag = rng.uniform(0.02, 0.09) * length / fields
    end = thing.height + (0.0 if fields > 1 else rng.uniform(-1.2, 1.2))
    height = thing.height + (end - thing.height) * t - 4 * sag * within * (1 - within)
    points = np.stack([x1 + (x2 - x1) * t, height, z1 + (z2 - z1) * t], axis=1)
    strokes.draw(points, rng.uniform(0.035, 0.1), _of(rng, _WIRES))


def _pole(strokes: Strokes, rng: np.random.Generator, thing: Thing) -> None:
    """Upright with arms for cables, leaning against nothing that is seen, or lying about."""
    foot, colour, thick = _foot(thing), _of(rng, _POLES), rng.uniform(0.1, 0.24)
    if thing.height == 0:
        half = rng.uniform(1.6, 4.5) * np.array([np.sin(thing.yaw), 0, np.cos(thing.yaw)])
        lifted = thick / 2 * _UP
        strokes.shade([foot - half, foot + half], thick * 1.5)
        strokes.draw([foot - half + lifted, foot + half + lifted], thick, colour, round_=True)
        return
    strokes.shade([foot - 0.25 * _RIGHT, foot + 0.25 * _RIGHT], thick)
    top = foot + thing.height * _upwards(thing.yaw, _lean(rng, thing))
    strokes.draw([foot, top], thick, colour, round_=True)
    arms = int(rng.integers(0, 4)) if thing.height > 5 else 0
    reach = rng.uniform(0.5, 1.1)
    for arm in range(arms):
        at = foot + (top - foot) * (0.96 - 0.09 * arm)
        strokes.draw([at - reach * _RIGHT, at + reach * _RIGHT], 0.1, colour)
        for x in (-0.9, -0.4, 0.4, 0.9):
            strokes.draw([at + x * reach * _RIGHT, at + x * reach * _RIGHT + 0.18 * _UP], 0.07, (70, 66, 62))
    if rng.random() < 0.25 and thing.height > 4:  # a stay
        away = rng.choice([-1.0, 1.0]) * rng.uniform(1.2, 3.0)
        strokes.draw([foot + (top - foot) * 0.8, foot + away * _RIGHT], 0.05, (120, 122, 124))


def _ladder(strokes: Strokes, rng: np.random.Generator, thing: Thing) -> None:
    """Two rails with rungs, leaning; or a pair of steps."""
    foot, colour, wide = _foot(thing), _of(rng, _LADDERS), rng.uniform(0.36, 0.6)
    along = _upwards(thing.yaw, _lean(rng, thing))
    across = np.array([np.cos(thing.yaw + 1.2), 0, np.sin(thing.yaw + 1.2)]) * wide / 2
    across += _perpendicular(along) * wide / 2 * rng.uniform(0.3, 0.8)
    strokes.shade([foot - across * 2, foot + across * 2], 0.12)
    steps = rng.random() < 0.25
    length = thing.height * (0.45 if steps else 1.0)
    if steps:
        mirrored = along * (-1, 1, -1)
        for side in (-1, 1):
            strokes.draw(
                [foot + along * length + across * side, foot + along * length + across * side - mirrored * length],
                0.05,
                _darker(colour),
            )
    rungs = np.arange(0.3, length - 0.1, rng.uniform(0.28, 0.4))
    for up in rungs.tolist():
        at = foot + along * up
        strokes.draw([at - across, at + across], 0.045, _darker(colour))
    for side in (-1, 1):
        strokes.draw([foot + across * side, foot + across * side + along * length], 0.07, colour, round_=True)


def _crane(strokes: Strokes, rng: np.random.Generator, thing: Thing) -> None:
    """The boom of a crane, a lattice or a telescope, with its rope and hook."""
    foot, colour = _foot(thing) + rng.uniform(1.2, 2.2) * _UP, _of(rng, _CRANES)
    along, deep = _upwards(thing.yaw, rng.uniform(0.35, 1.15)), rng.uniform(0.5, 1.0)
    top = foot + along * thing.height
    if rng.random() < 0.3:
        for share, thick in ((0.45, 0.42), (0.75, 0.32), (1.0, 0.22)):
            strokes.draw([foot, foot + (top - foot) * share], thick, colour, round_=True)
    else:
        across = _perpendicular(along) * deep / 2
        bays = max(int(thing.height / deep / 1.1), 4)
        ends = np.linspace(0, 1, bays + 1)
        taper = np.minimum(np.minimum(ends * 6, (1 - ends) * 8), 1.0)[:, None]
        chords = [foot + (top - foot) * ends[:, None] + side * across * taper for side in (-1, 1)]
        zigzag = np.stack([chords[i % 2][i] for i in range(bays + 1)])
        strokes.draw(zigzag, 0.07, _darker(colour))
        strokes.draw(np.stack([chords[(i + 1) % 2][i] for i in range(bays + 1)]), 0.07, _darker(colour))
        for chord in chords:
            strokes.draw(chord, 0.12, colour)
    drop = top - thing.height * along[1] * rng.uniform(0.2, 0.7) * _UP
    strokes.draw([top, drop], 0.05, (48, 48, 52))
    strokes.draw([drop, drop - 0.5 * _UP], 0.3, (206, 160, 30))


def _barrier(strokes: Strokes, rng: np.random.Generator, thing: Thing) -> None:
    """A striped boom, lowered or on its way up, on a post."""
    foot, colours, thick = _foot(thing), _STRIPES[int(rng.integers(len(_STRIPES)))], rng.uniform(0.1, 0.2)
    base, raised = rng.uniform(0.8, 1.1), rng.choice([0.03, rng.uniform(0.2, 1.2), rng.uniform(0.2, 1.2)])
    level = np.array([np.sin(thing.yaw), 0, np.cos(thing.yaw)])
    along = level * np.cos(raised) + np.sin(raised) * _UP
    hinge = foot + base * _UP
    strokes.shade([foot - 0.3 * _RIGHT, foot + 0.3 * _RIGHT], 0.25)
    strokes.draw([foot, hinge + 0.12 * _UP], 0.3, (190, 190, 186) if rng.random() < 0.5 else (206, 160, 30))
    cuts = np.linspace(-0.6, thing.height, int(thing.height / rng.uniform(0.4, 0.8)) + 2)
    for i, (start, end) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)):
        strokes.draw([hinge + along * start, hinge + along * end], thick, colours[i % 2])
    if raised < 0.1 and rng.random() < 0.6:
        tip = hinge + along * (thing.height - 0.1)
        strokes.draw([tip, tip * (1, 0, 1)], 0.07, (150, 152, 154))


def _hose(strokes: Strokes, rng: np.random.Generator, thing: Thing) -> None:
    """Winds over the ground from one end of its span to the other."""
    x1, x2, z1, z2 = _ends(thing)
    thick, t = rng.uniform(0.09, 0.24), np.linspace(0, 1, 60)
    bend = np.zeros_like(t)
    for waves in (1, 2, 3):
        bend += rng.normal(0, 1 / waves) * np.sin(np.pi * waves * t) + rng.normal(0, 0.2) * (1 - np.cos(2 * np.pi * t))
    length, aside = np.hypot(x2 - x1, z2 - z1), np.array([z2 - z1, x1 - x2])
    aside = aside / max(float(np.hypot(*aside)), 1e-6) * length * 0.16
    x, z = x1 + (x2 - x1) * t + aside[0] * bend, z1 + (z2 - z1) * t + aside[1] * bend
    points = np.stack([x, np.full_like(t, thick / 2), z], axis=1)
    strokes.shade(points * (1, 0, 1) + 0.03 * _RIGHT, thick * 1.3)
    strokes.draw(points, thick, _of(rng, _HOSES), round_=True)


PAINTERS: dict[str, Callable[[Strokes, np.random.Generator, Thing], None]] = {
    "cable": _cable,
    "pole": _pole,
    "ladder": _ladder,
    "crane": _crane,
    "barrier": _barrier,
    "hose": _hose,
}


def _ends(thing: Thing) -> tuple[float, float, float, float]:
    """X of both ends of the span and Z of both, from near left to far right or from near right to far left."""
    x1, x2, z1, z2 = thing.span
    return (x1, x2, z1, z2) if thing.yaw >= 0 else (x2, x1, z1, z2)


def _foot(thing: Thing) -> Point:
    return np.array([thing.x, 0.0, thing.z])


def _lean(rng: np.random.Generator, thing: Thing) -> float:
    """Radians from upright."""
    if thing.kind == "pole" and thing.height > 5:
        return float(rng.choice([0.0, rng.normal(0, 0.05), rng.uniform(0.1, 0.5)], p=[0.3, 0.4, 0.3]))
    return float(rng.uniform(0.15, 0.9))


def _upwards(yaw: float, lean: float) -> Point:
    """The unit vector that leans `lean` radians towards `yaw`."""
    return np.array([np.sin(lean) * np.sin(yaw), np.cos(lean), np.sin(lean) * np.cos(yaw)])


def _perpendicular(along: Point) -> Point:
    """The unit vector across `along` and the view."""
    across = np.cross(along, (0.0, 0.0, 1.0))
    return across / max(float(np.linalg.norm(across)), 1e-6)


def _of(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _darker(colour: Colour) -> Colour:
    r, g, b = (int(0.75 * value) for value in colour)
    return r, g, b
