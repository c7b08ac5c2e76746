"""People on foot, painted as upright figures that face the camera or walk across its view."""

from dataclasses import dataclass

import numpy as np

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas, Pen
from tis_ray.data.scenes.light import Colour, Light

SKIN: tuple[Colour, ...] = ((236, 198, 168), (214, 166, 130), (172, 122, 88), (116, 78, 56))
HAIR: tuple[Colour, ...] = ((24, 20, 18), (46, 32, 24), (92, 64, 40), (150, 120, 80), (120, 120, 122))
CLOTHES: tuple[Colour, ...] = (
    (30, 32, 40),
    (52, 62, 92),
    (196, 40, 44),
    (224, 224, 222),
    (70, 110, 80),
    (224, 176, 60),
    (120, 84, 140),
    (58, 120, 176),
    (206, 120, 140),
    (120, 112, 100),
)


@dataclass(frozen=True, slots=True)
class _Figure:
    """Where a person stands on the picture, and how a length in shares of the height becomes pixels."""

    x: float
    foot: float
    height_px: float

    def at(self, across: float, up: float) -> tuple[float, float]:
        return self.x + across * self.height_px, self.foot - up * self.height_px


def paint_person(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
    *,
    x: float,
    z: float,
    number: int,
    colour: Colour | None,
) -> None:
    """Paint a grown-up or child standing at (x, z); `colour` fixes the upper clothes."""
    tall = rng.uniform(1.05, 1.35) if rng.random() < 0.1 else rng.uniform(1.55, 1.88)
    foot_x, foot_y = camera.ground(x, z)
    figure = _Figure(foot_x, foot_y, tall * camera.focal_px / z)
    tones = _Outfit.draw(rng, light, z, colour)
    sideways, stride = rng.random() < 0.5, rng.uniform(0.02, 0.13)
    bag, wide = rng.random() < 0.3, rng.uniform(0.9, 1.15)

    def paint(pen: Pen) -> None:
        h = figure.height_px
        for share, alpha in ((1.0, 70), (0.6, 80)):
            pen.ellipse(
                *figure.at(0.03, 0.0), h * 0.17 * share, h * 0.03 * share, (12, 12, 16), alpha=alpha, mask=False
            )
        _legs(pen, figure, tones, stride if sideways else 0.055, wide)
        _upper(pen, figure, tones, sideways=sideways, stride=stride, wide=wide)
        if bag:
            pen.polygon([figure.at(a * wide, u) for a, u in _BAG[sideways]], tones.bag)
        _head(pen, figure, tones)

    reach = figure.height_px * 0.3
    canvas.paint(
        (foot_x - reach, foot_y - figure.height_px * 1.03, foot_x + reach, foot_y + figure.height_px * 0.05),
        number,
        paint,
    )


_BAG = {
    True: ((-0.17, 0.8), (-0.08, 0.82), (-0.07, 0.56), (-0.17, 0.57)),  # a rucksack
    False: ((0.09, 0.55), (0.18, 0.55), (0.19, 0.38), (0.1, 0.38)),  # a shopping bag
}


@dataclass(frozen=True, slots=True)
class _Outfit:
    skin: Colour
    hair: Colour
    top: Colour
    shade: Colour
    legs: Colour
    shoes: Colour
    bag: Colour
    skirt: bool

    @staticmethod
    def draw(rng: np.random.Generator, light: Light, z: float, colour: Colour | None) -> "_Outfit":
        top = CLOTHES[int(rng.integers(len(CLOTHES)))] if colour is None else colour
        legs = CLOTHES[int(rng.choice([0, 0, 1, 1, 1, 7, 9]))]
        bag, skin = CLOTHES[int(rng.integers(len(CLOTHES)))], SKIN[int(rng.integers(len(SKIN)))]
        hair, skirt = HAIR[int(rng.integers(len(HAIR)))], bool(rng.random() < 0.2)
        tones = [light.flat(c, z) for c in (skin, hair, top)] + [light.flat(top, z, strength=0.68)]
        tones += [light.flat(c, z) for c in (legs, (28, 26, 26), bag)]
        return _Outfit(*tones, skirt=skirt)  # type: ignore[misc,arg-type]


def _legs(pen: Pen, figure: _Figure, tones: _Outfit, stride: float, wide: float) -> None:
    h = figure.height_px
    for side in (-1, 1):
        hip, foot = figure.at(side * 0.045 * wide, 0.49), figure.at(side * stride, 0.03)
        knee = figure.at(side * (0.03 + stride * 0.5) * wide, 0.27)
        pen.limb([hip, knee, foot], 0.085 * h * wide, tones.skin if tones.skirt else tones.legs)
        pen.ellipse(foot[0] + 0.015 * h, figure.foot - 0.02 * h, 0.055 * h, 0.022 * h, tones.shoes)
    if tones.skirt:
        outline = ((-0.08, 0.55), (0.08, 0.55), (0.13, 0.3), (-0.13, 0.3))
        pen.polygon([figure.at(a * wide, u) for a, u in outline], tones.legs)


def _upper(pen: Pen, figure: _Figure, tones: _Outfit, *, sideways: bool, stride: float, wide: float) -> None:
    h, broad = figure.height_px, (0.085 if sideways else 0.12) * wide
    swing = stride * 1.1 if sideways else 0.03
    shoulder = 0.0 if sideways else broad + 0.005
    outline = ((-broad, 0.8), (-broad * 0.7, 0.84), (broad * 0.7, 0.84), (broad, 0.8))
    outline += ((broad * 0.85, 0.47), (-broad * 0.85, 0.47))  # type: ignore[assignment]
    if sideways:
        _arm(pen, figure, tones.shade, tones.skin, shoulder, swing)
    pen.polygon([figure.at(a, u) for a, u in outline], tones.top)
    pen.polygon(
        [
            figure.at(a, u)
            for a, u in ((0, 0.83), (broad * 0.7, 0.83), (broad, 0.8), (broad * 0.85, 0.47), (broad * 0.2, 0.47))
        ],
        tones.shade,
    )
    pen.limb([figure.at(0, 0.82), figure.at(0, 0.88)], 0.055 * h, tones.skin)
    for side in (-1,) if sideways else (-1, 1):
        _arm(pen, figure, tones.top if side < 0 else tones.shade, tones.skin, side * shoulder, side * swing)


def _arm(pen: Pen, figure: _Figure, sleeve: Colour, skin: Colour, shoulder: float, swing: float) -> None:
    h = figure.height_px
    top, elbow = figure.at(shoulder, 0.79), figure.at(shoulder + swing * 0.4, 0.63)
    hand = figure.at(shoulder + swing, 0.49)
    pen.limb([top, elbow, hand], 0.05 * h, sleeve)
    pen.ellipse(*hand, 0.026 * h, 0.03 * h, skin)


def _head(pen: Pen, figure: _Figure, tones: _Outfit) -> None:
    h = figure.height_px
    pen.ellipse(*figure.at(0, 0.945), 0.05 * h, 0.058 * h, tones.hair)
    pen.ellipse(*figure.at(0.008, 0.925), 0.042 * h, 0.048 * h, tones.skin)
