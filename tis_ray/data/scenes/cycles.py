"""Bicycles, motorbicycles and tricycles.

Riders follow the WAD convention: a rider is a class of its own that is not evaluated, so those painted here
belong to no instance; they hide what is behind them and count as background.
"""

from collections.abc import Callable

import numpy as np

from tis_ray.data.scenes.light import Colour
from tis_ray.data.scenes.people import CLOTHES, HAIR, SKIN
from tis_ray.data.scenes.solids import Solid, bar, block, prism, wheel
from tis_ray.data.scenes.vehicles import (
    BLACK,
    HUB,
    RED_LAMP,
    TYRE,
    WHITE_LAMP,
    Model,
    darker,
    glass,
    paint_of,
)

_RIDDEN = 0.5  # share of two-wheelers with somebody on them; the others are parked or pushed out of the way


def bicycle(rng: np.random.Generator, colour: Colour | None) -> Model:
    """Two thin wheels, a frame of bars, saddle and handlebar."""
    colour = colour or paint_of(rng)
    radius, thin = 0.35, (-0.035, 0.035)
    crank, saddle, head = (-0.05, 0.3), (-0.22, 0.82), (0.38, 0.85)
    model = [_spoked(-0.53, radius), _spoked(0.53, radius)]
    bars = ((crank, saddle), (crank, head), (saddle, head), (crank, (-0.53, radius)), (saddle, (-0.53, radius)))
    model += [bar(a, b, 0.06, thin, colour, layer=2) for a, b in bars]
    model.append(bar((0.53, radius), (0.36, 1.0), 0.06, thin, colour, layer=2))
    model.append(block((-0.36, -0.1), (-0.08, 0.08), (0.86, 0.93), BLACK, layer=3))
    model.append(block((0.3, 0.38), (-0.29, 0.29), (0.98, 1.04), BLACK, layer=3))
    if rng.random() < 0.4:
        model.append(block((0.4, 0.68), (-0.18, 0.18), (0.72, 0.95), (110, 100, 90), layer=3))
    return model + (_rider(rng, seat=0.92, foot=0.25, helmet=False) if rng.random() < _RIDDEN else [])


def _spoked(u: float, radius: float) -> Solid:
    rim = wheel(u, radius, (-0.03, 0.03), (96, 98, 102), layer=1).sheer(110)
    for side in (-0.03, 0.03):
        for i in range(14):
            a, b = 2 * np.pi * i / 14, 2 * np.pi * (i + 1) / 14
            rim.quad([_polar(u, radius, q, r, side) for q, r in ((a, 1), (b, 1), (b, 0.82), (a, 0.82))], TYRE)
        rim.disc(side, u, radius, 0.06, HUB)
    return rim


def _polar(u: float, radius: float, angle: float, share: float, v: float) -> tuple[float, float, float]:
    return u + radius * share * float(np.cos(angle)), v, radius + radius * share * float(np.sin(angle))


def motorbicycle(rng: np.random.Generator, colour: Colour | None) -> Model:
    """Two thick wheels under a bulky body with lamps, seat, shield and mirrors."""
    colour = colour or paint_of(rng)
    radius, u = 0.3, 0.64
    model = [
        wheel(place, radius, (-0.08, 0.08), TYRE, layer=1).disc(0.08, place, radius, 0.16, HUB) for place in (-u, u)
    ]
    for solid, place in zip(model, (-u, u), strict=True):
        solid.disc(-0.08, place, radius, 0.16, HUB)
    hull = prism(
        [(-0.85, 0.55), (-0.5, 0.3), (0.3, 0.28), (0.35, 0.5), (-0.3, 0.8), (-0.85, 0.78)], (-0.2, 0.2), colour, layer=2
    )
    shield = prism(
        [(0.3, 0.3), (0.5, 0.34), (0.66, 0.72), (0.52, 1.08), (0.4, 1.02), (0.24, 0.5)], (-0.24, 0.24), colour, layer=2
    )
    seat = block((-0.8, 0.05), (-0.16, 0.16), (0.76, 0.9), BLACK, lean=(0.05, 0.1, 0.03), layer=3)
    tail = block((-0.95, -0.82), (-0.15, 0.15), (0.58, 0.76), darker(colour, 0.6), layer=3)
    tail.patch("rear", (0.15, 0.85), (0.4, 0.95), RED_LAMP, lamp=True).patch(
        "rear", (0.2, 0.8), (0, 0.34), (228, 190, 60)
    )
    lamp = block((0.56, 0.66), (-0.11, 0.11), (0.78, 0.96), darker(colour, 0.5), layer=3)
    lamp.patch("front", (0.1, 0.9), (0.1, 0.9), WHITE_LAMP, lamp=True)
    grips = block((0.34, 0.42), (-0.36, 0.36), (1.04, 1.1), BLACK, layer=3)
    mirrors = [block((0.38, 0.42), (v - 0.07, v + 0.07), (1.18, 1.28), BLACK, layer=3) for v in (-0.3, 0.3)]
    model += [hull, shield, seat, tail, lamp, grips, *mirrors]
    return model + (_rider(rng, seat=0.9, foot=0.38, helmet=True) if rng.random() < _RIDDEN else [])


def _rider(rng: np.random.Generator, *, seat: float, foot: float, helmet: bool) -> Model:
    """Somebody leaning forward over the handlebar; labelled as nothing."""
    shirt, trousers = CLOTHES[int(rng.integers(len(CLOTHES)))], CLOTHES[int(rng.integers(len(CLOTHES)))]
    top = CLOTHES[int(rng.integers(len(CLOTHES)))] if helmet else HAIR[int(rng.integers(len(HAIR)))]
    torso = prism([(-0.4, seat), (-0.08, seat), (0.14, seat + 0.5), (-0.16, seat + 0.56)], (-0.2, 0.2), shirt, layer=4)
    head = prism(_circle(0.06, seat + 0.72, 0.13), (-0.11, 0.11), SKIN[int(rng.integers(len(SKIN)))], layer=5)
    cap = prism(_circle(0.03, seat + 0.76, 0.13), (-0.125, 0.125), top, layer=6)
    parts = [torso, head, cap]
    for v in ((-0.24, -0.12), (0.12, 0.24)):
        parts.append(bar((-0.2, seat), (0.2, seat - 0.1), 0.16, v, trousers, layer=4))
        parts.append(bar((0.18, seat - 0.1), (0.04, foot), 0.13, v, trousers, layer=4))
        parts.append(bar((0.02, seat + 0.46), (0.32, seat + 0.14), 0.1, v, darker(shirt, 0.85), layer=4))
    for part in parts:
        part.labelled = False
    return parts


def _circle(u: float, h: float, radius: float) -> list[tuple[float, float]]:
    angles = np.arange(10) * (2 * np.pi / 10)
    return [(u + radius * float(np.cos(a)), h + radius * float(np.sin(a))) for a in angles]


def tricycle(rng: np.random.Generator, colour: Colour | None) -> Model:
    """A three-wheeled carrier: one wheel and a shield in front, a canopy, and a cargo bed behind."""
    colour = colour or _CARRIERS[int(rng.integers(len(_CARRIERS)))]
    half, top = rng.uniform(0.52, 0.62), rng.uniform(1.65, 1.85)
    bed = block((-1.45, 0.15), (-half, half), (0.5, rng.uniform(0.85, 1.05)), colour, layer=2)
    for across in ((0.02, 0.16), (0.84, 0.98)):
        bed.patch("rear", across, (0.1, 0.5), RED_LAMP, lamp=True)
    bed.patch("rear", (0.06, 0.94), (0.86, 0.94), darker(colour, 0.5))
    for side in ("left", "right"):
        for s in (0.25, 0.5, 0.75):
            bed.patch(side, (s, s + 0.02), (0, 1), darker(colour, 0.55))
    seat = block((0.15, 0.6), (-half * 0.8, half * 0.8), (0.45, 0.85), BLACK, layer=2)
    shield = prism(
        [(0.85, 0.4), (1.0, 0.36), (1.22, 0.75), (1.02, 1.2), (0.92, 1.18)],
        (-half * 0.75, half * 0.75),
        colour,
        layer=2,
    )
    shield.patch("2", (0.38, 0.62), (0.1, 0.6), WHITE_LAMP, lamp=True)
    screen = prism(
        [(0.9, 1.16), (1.02, 1.18), (0.84, top), (0.76, top)], (-half * 0.8, half * 0.8), glass(rng), layer=3
    )
    roof = block((-0.2, 1.0), (-half, half), (top, top + 0.1), darker(colour, 0.8), lean=(0.1, 0.1, 0.06), layer=5)
    posts = [
        bar((u, 0.85), (u, top), 0.06, (v - 0.03, v + 0.03), BLACK, layer=4)
        for u in (-0.12, 0.2)
        for v in (-half + 0.05, half - 0.05)
    ]
    back = block((-0.1, 0.0), (-half * 0.9, half * 0.9), (0.85, top), (60, 62, 66), layer=3)
    back.patch("rear", (0.15, 0.85), (0.4, 0.85), glass(rng))
    wheels = [
        wheel(u, 0.26, v, TYRE, layer=1)
        for u, v in ((1.0, (-0.06, 0.06)), (-0.9, (-half, -half + 0.12)), (-0.9, (half - 0.12, half)))
    ]
    for solid, v in zip(wheels[1:], (-half, half), strict=True):
        solid.disc(v, -0.9, 0.26, 0.14, HUB)
    cargo = []
    if rng.random() < 0.5:
        tone = _GOODS[int(rng.integers(len(_GOODS)))]
        cargo = [
            block(
                (-1.35, -0.25),
                (-half + 0.06, half - 0.06),
                (0.85, rng.uniform(1.2, 1.6)),
                tone,
                lean=(0.1, 0.1, 0.1),
                layer=3,
            )
        ]
    return [*wheels, bed, seat, shield, screen, back, *posts, *cargo, roof]


_CARRIERS: tuple[Colour, ...] = ((30, 90, 170), (186, 34, 36), (40, 130, 70), (226, 130, 30))
_GOODS: tuple[Colour, ...] = ((176, 140, 96), (210, 205, 195), (90, 110, 90), (150, 60, 60))

BUILDERS: dict[str, Callable[[np.random.Generator, Colour | None], Model]] = {
    "bicycle": bicycle,
    "motorbicycle": motorbicycle,
    "tricycle": tricycle,
}
