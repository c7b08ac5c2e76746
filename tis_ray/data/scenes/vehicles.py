"""Cars, vans, trucks and buses, built of solids; two- and three-wheelers are in `cycles`."""

from collections.abc import Callable

import numpy as np

from tis_ray.data.scenes.light import Colour
from tis_ray.data.scenes.solids import Solid, block, prism, wheel

Model = list[Solid]

TYRE, HUB, BLACK = (24, 24, 26), (150, 152, 156), (16, 16, 18)
RED_LAMP, WHITE_LAMP, AMBER_LAMP = (214, 28, 24), (250, 246, 224), (240, 160, 40)
_PAINTS: tuple[Colour, ...] = (
    (226, 227, 230),
    (232, 232, 232),
    (36, 38, 42),
    (52, 54, 60),
    (128, 131, 136),
    (172, 175, 180),
    (164, 26, 30),
    (30, 62, 140),
    (58, 88, 120),
    (98, 70, 48),
    (212, 186, 140),
    (214, 168, 28),
    (34, 92, 62),
)


def paint_of(rng: np.random.Generator) -> Colour:
    """A usual car colour."""
    return _PAINTS[int(rng.integers(len(_PAINTS)))]


def darker(colour: Colour, share: float) -> Colour:
    """The colour times `share`."""
    return int(colour[0] * share), int(colour[1] * share), int(colour[2] * share)


def glass(rng: np.random.Generator) -> Colour:
    """Dark window glass with some sky in it."""
    tone = int(rng.integers(22, 62))
    return tone, tone + 6, tone + 12


def car(rng: np.random.Generator, colour: Colour | None) -> Model:
    """A saloon, hatchback or estate of 3.8-4.8 m."""
    colour = colour or paint_of(rng)
    end, half, sill = rng.uniform(1.9, 2.4), rng.uniform(0.84, 0.93), 0.24
    top, belt = rng.uniform(1.38, 1.68), rng.uniform(0.84, 0.98)
    trunk = rng.choice([0.1, 0.25, 0.75])  # where the rear window ends: estate, hatchback, saloon
    profile = [(-end, sill), (-end, belt * 0.72), (-end + 0.08, belt - 0.03), (-end + 0.6, belt)]
    profile += [(end - 1.3, belt), (end - 0.2, belt * 0.8), (end, belt * 0.6), (end, sill)]
    body = prism(profile, (-half, half), colour, layer=2)
    _car_ends(body, rng, colour)
    pane = glass(rng)
    cabin = block(
        (-end + trunk, end - 1.05),
        (-half + 0.05, half - 0.05),
        (belt - 0.02, top),
        colour,
        lean=(0.2 + trunk * 0.6, 0.75, 0.17),
        layer=3,
    )
    cabin.patch("rear", (0.07, 0.93), (0.12, 0.86), pane).patch("front", (0.05, 0.95), (0.08, 0.9), pane)
    for side in ("left", "right"):
        cabin.patch(side, (0.12, 0.5), (0.1, 0.86), pane).patch(side, (0.53, 0.93), (0.1, 0.86), pane)
    radius = rng.uniform(0.3, 0.35)
    return [*_wheels(body, (-end + 0.8, end - 0.85), half, radius), body, cabin]


def _car_ends(body: Solid, rng: np.random.Generator, colour: Colour) -> None:
    plate = (40, 80, 190) if rng.random() < 0.6 else (236, 236, 230)
    trim = darker(colour, 0.45)
    body.patch("0", (0, 1), (0.0, 0.28), trim)  # edge 0 is the tail; its "along" runs upwards
    body.patch("0", (0.02, 0.26), (0.62, 0.98), RED_LAMP, lamp=True)
    body.patch("0", (0.74, 0.98), (0.62, 0.98), RED_LAMP, lamp=True)
    body.patch("0", (0.36, 0.64), (0.45, 0.68), plate)
    body.patch("6", (0.1, 0.9), (0.66, 1), BLACK)  # edge 6 is the nose, running downwards
    body.patch("6", (0.3, 0.7), (0.1, 0.5), darker(colour, 0.25))
    body.patch("5", (0.03, 0.27), (0.45, 1), WHITE_LAMP, lamp=True)
    body.patch("5", (0.73, 0.97), (0.45, 1), WHITE_LAMP, lamp=True)
    body.patch("6", (0.36, 0.64), (0.42, 0.66), plate)


def _wheels(body: Solid, places: tuple[float, ...], half: float, radius: float, *, wide: float = 0.24) -> Model:
    """Wheels under a body and, painted on its flanks, as they show in their arches."""
    model = []
    for u in places:
        for v in (-half, half):
            inner = v - np.sign(v) * wide
            model.append(wheel(u, radius, (min(v, inner), max(v, inner)), TYRE, layer=1))
            body.disc(v, u, radius * 1.08, radius * 1.14, BLACK)
            body.disc(v, u, radius, radius, TYRE)
            body.disc(v, u, radius, radius * 0.58, HUB)
    return model


def van(rng: np.random.Generator, colour: Colour | None) -> Model:
    """A tall one-box van with few windows."""
    colour = colour or paint_of(rng)
    half, top, pane = rng.uniform(0.88, 0.98), rng.uniform(1.85, 2.2), glass(rng)
    body = block((-2.3, 2.3), (-half, half), (0.28, 1.0), colour, layer=2)
    upper = block((-2.3, 2.1), (-half, half), (1.0, top), colour, lean=(0.08, 0.75, 0.12), layer=3)
    upper.patch("front", (0.06, 0.94), (0.1, 0.85), pane).patch("rear", (0.1, 0.9), (0.35, 0.85), pane)
    for side in ("left", "right"):
        upper.patch(side, (0.68, 0.93), (0.1, 0.75), pane).patch(side, (0.4, 0.64), (0.2, 0.75), pane)
    _box_ends(body, tail=0.16)
    return [*_wheels(body, (-1.4, 1.45), half, 0.33), body, upper]


def _box_ends(body: Solid, *, tail: float) -> None:
    for across in ((0.02, 0.02 + tail), (0.98 - tail, 0.98)):
        body.patch("rear", across, (0.35, 0.9), RED_LAMP, lamp=True)
        body.patch("front", across, (0.45, 0.75), WHITE_LAMP, lamp=True)
    body.patch("rear", (0, 1), (0, 0.22), BLACK).patch("front", (0, 1), (0, 0.25), BLACK)
    body.patch("rear", (0.38, 0.62), (0.3, 0.5), (226, 190, 60))
    body.patch("front", (0.28, 0.72), (0.4, 0.6), (60, 60, 64))


def truck(rng: np.random.Generator, colour: Colour | None) -> Model:
    """A cab before a tall cargo box, or before an open bed with a load."""
    cab_colour = colour or _TRUCKS[int(rng.integers(len(_TRUCKS)))]
    long, half = rng.uniform(2.6, 4.0), rng.uniform(1.05, 1.22)
    pane, cab_top = glass(rng), rng.uniform(2.3, 2.7)
    chassis = block((-long, long - 0.1), (-half * 0.75, half * 0.75), (0.5, 0.85), BLACK, layer=1)
    cab = block(
        (long - 1.9, long), (-half * 0.96, half * 0.96), (0.55, cab_top), cab_colour, lean=(0, 0.25, 0.06), layer=2
    )
    cab.patch("front", (0.07, 0.93), (0.5, 0.88), pane).patch("front", (0.1, 0.9), (0.18, 0.4), darker(cab_colour, 0.4))
    cab.patch("front", (0, 1), (0, 0.13), (70, 70, 74))
    for across in ((0.03, 0.2), (0.8, 0.97)):
        cab.patch("front", across, (0.1, 0.2), WHITE_LAMP, lamp=True)
    for side in ("left", "right"):
        cab.patch(side, (0.35, 0.92), (0.52, 0.86), pane)
    rear = block((-long - 0.05, -long + 0.1), (-half, half), (0.5, 0.95), (40, 40, 44), layer=2)
    for across in ((0.02, 0.18), (0.82, 0.98)):
        rear.patch("rear", across, (0.3, 0.9), RED_LAMP, lamp=True)
    rear.patch("rear", (0.4, 0.6), (0.3, 0.8), (226, 190, 60))
    wheels = [
        solid
        for u in (-long + 1.0, -long + 2.0, long - 1.0)
        for side in (-1, 1)
        for solid in _lorry_wheel(u, side * half)
    ]
    return [*wheels, chassis, *_load(rng, long, half, colour or cab_colour, fixed=colour is not None), rear, cab]


_TRUCKS: tuple[Colour, ...] = ((190, 40, 34), (226, 226, 226), (40, 84, 160), (226, 150, 30), (60, 120, 80))
_BOXES: tuple[Colour, ...] = ((214, 214, 210), (196, 198, 200), (206, 196, 176), (120, 150, 176), (170, 90, 60))


def _lorry_wheel(u: float, v: float) -> Model:
    inner = v - np.sign(v) * 0.42
    span = (min(v, inner), max(v, inner))
    tyre = wheel(u, 0.48, span, TYRE, layer=1)
    return [tyre.disc(v, u, 0.48, 0.26, HUB)]


def _load(rng: np.random.Generator, long: float, half: float, colour: Colour, *, fixed: bool) -> Model:
    bed = (-long, long - 2.0)
    if rng.random() < 0.72:
        wall = colour if fixed else _BOXES[int(rng.integers(len(_BOXES)))]
        top = rng.uniform(2.9, 3.6)
        box = block(bed, (-half, half), (0.9, top), wall, layer=2)
        box.patch("rear", (0.485, 0.515), (0.03, 0.97), darker(wall, 0.5))
        for across in ((0.0, 0.035), (0.965, 1.0)):
            box.patch("rear", across, (0, 1), darker(wall, 0.7))
        for s in (0.3, 0.38, 0.62, 0.7):
            box.patch("rear", (s - 0.008, s + 0.008), (0.08, 0.92), darker(wall, 0.72))
        for side in ("left", "right"):
            box.patch(side, (0, 1), (0, 0.06), darker(wall, 0.6))
            if rng.random() < 0.6:
                box.patch(side, (0.15, 0.85), (0.4, 0.66), darker(paint_of(rng), 0.9))
        return [box]
    wall = darker(colour, 0.85)
    side_top = rng.uniform(1.5, 1.9)
    tray = block(bed, (-half, half), (0.9, side_top), wall, layer=2)
    for s in np.arange(0.1, 1, 0.2).tolist():
        for side in ("left", "right", "rear"):
            tray.patch(side, (s, s + 0.025), (0, 1), darker(wall, 0.6))
    earth = block(
        (bed[0] + 0.2, bed[1] - 0.2), (-half + 0.15, half - 0.15), (side_top, side_top + 0.6),
        (120, 98, 72), lean=(0.9, 0.9, 0.5), layer=3,
    )  # fmt: skip
    return [tray, earth]


def bus(rng: np.random.Generator, colour: Colour | None) -> Model:
    """A city bus of 9-12 m with a band of windows, doors on the right and a destination sign."""
    colour = colour or _BUSES[int(rng.integers(len(_BUSES)))]
    second = _BUSES[int(rng.integers(len(_BUSES)))] if rng.random() < 0.5 else darker(colour, 0.7)
    end, half, top, pane = rng.uniform(4.5, 6.0), 1.25, rng.uniform(2.95, 3.25), glass(rng)
    body = block((-end, end), (-half, half), (0.35, top), colour, lean=(0.06, 0.12, 0.07), layer=2)
    body.patch("rear", (0.1, 0.9), (0.56, 0.84), pane).patch("rear", (0.28, 0.72), (0.88, 0.96), BLACK)
    body.patch("rear", (0.16, 0.84), (0.14, 0.4), darker(colour, 0.55)).patch("rear", (0, 1), (0, 0.08), BLACK)
    body.patch("front", (0.04, 0.96), (0.34, 0.84), pane).patch("front", (0.2, 0.8), (0.87, 0.97), BLACK)
    body.patch("front", (0.28, 0.72), (0.89, 0.95), AMBER_LAMP, lamp=True).patch("front", (0, 1), (0, 0.07), BLACK)
    for across in ((0.03, 0.13), (0.87, 0.97)):
        body.patch("rear", across, (0.12, 0.38), RED_LAMP, lamp=True)
        body.patch("front", across, (0.12, 0.22), WHITE_LAMP, lamp=True)
    panes = int(rng.integers(6, 9))
    for side in ("left", "right"):
        body.patch(side, (0, 1), (0.08, 0.3), second)
        for i in range(panes):
            body.patch(side, ((i + 0.08) / panes, (i + 0.94) / panes), (0.46, 0.84), pane)
    for s in (0.38, 0.84):
        body.patch("right", (s, s + 0.11), (0.06, 0.84), darker(pane, 1.5))
        body.patch("right", (s + 0.05, s + 0.06), (0.06, 0.84), BLACK)
    vent = block((-end + 1.5, -end + 3.5), (-0.7, 0.7), (top, top + 0.22), (200, 200, 200), layer=3)
    return [*_wheels(body, (-end + 2.6, end - 2.4), half, 0.5, wide=0.4), body, vent]


_BUSES: tuple[Colour, ...] = (
    (38, 110, 190),
    (206, 44, 40),
    (40, 140, 80),
    (234, 176, 40),
    (236, 236, 234),
    (230, 110, 30),
)

BUILDERS: dict[str, Callable[[np.random.Generator, Colour | None], Model]] = {
    "car": car,
    "van": van,
    "truck": truck,
    "bus": bus,
}
