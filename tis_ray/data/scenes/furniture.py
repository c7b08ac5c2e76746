"""What stands in a street and is labelled as nothing: trees, lamp posts, signs, bins."""

from collections.abc import Callable

import numpy as np

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas, Pen
from tis_ray.data.scenes.light import Colour, Light
from tis_ray.data.scenes.stuff import FURNITURE as FURNITURE_STUFF
from tis_ray.data.scenes.stuff import TREE

Tone = Callable[..., Colour]  # a colour, and perhaps its strength, as the light shows it
FURNITURE = ("tree", "tree", "lamp post", "sign", "bin")


def paint_furniture(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, kind: str, *, x: float, z: float
) -> None:
    """Paint one piece at (x, z)."""
    foot, metre = camera.ground(x, z), camera.focal_px / z
    painter = {"tree": _tree, "lamp post": _lamp_post, "sign": _sign, "bin": _bin}[kind]
    reach, height = {"tree": (3.2, 8.2), "lamp post": (2.4, 8.2), "sign": (0.8, 3.4), "bin": (0.6, 1.2)}[kind]
    lean = -1.0 if x > 0 else 1.0

    def tone(colour: Colour, strength: float = 0.9) -> Colour:
        return light.flat(colour, z, strength=strength)

    def paint(pen: Pen) -> None:
        painter(_Stand(pen, foot, metre, lean), tone, rng)

    bounds = (foot[0] - reach * metre, foot[1] - height * metre, foot[0] + reach * metre, foot[1] + 0.3 * metre)
    canvas.paint(bounds, 0, paint, stuff=TREE if kind == "tree" else FURNITURE_STUFF)


class _Stand:
    """Paints in metres about the foot of a piece; `lean` points across the road."""

    def __init__(self, pen: Pen, foot: tuple[float, float], metre: float, lean: float) -> None:
        self.pen, self.foot, self.metre, self.lean = pen, foot, metre, lean

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.foot[0] + x * self.metre * self.lean, self.foot[1] - y * self.metre

    def box(self, x: tuple[float, float], y: tuple[float, float], colour: Colour) -> None:
        self.pen.polygon([self.at(x[0], y[0]), self.at(x[1], y[0]), self.at(x[1], y[1]), self.at(x[0], y[1])], colour)

    def blob(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, *, alpha: int = 255, mask: bool = True
    ) -> None:
        self.pen.ellipse(*self.at(x, y), rx * self.metre, ry * self.metre, colour, alpha=alpha, mask=mask)


def _tree(stand: _Stand, tone: Tone, rng: np.random.Generator) -> None:
    stand.blob(0, 0, 1.6, 0.25, (12, 12, 16), alpha=60, mask=False)
    stand.box((-0.14, 0.14), (0, 3.2), tone((86, 66, 50)))
    crown, wide, tall = rng.uniform(4.4, 5.4), rng.uniform(1.3, 2.1), rng.uniform(1.3, 1.8)
    green = int(rng.integers(-14, 20))
    leaf = (62 + green, 104 + green, 48)
    stand.blob(0, crown, wide, tall, tone(leaf, 0.5))
    for i in range(44):
        angle, out = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        x, y = wide * out * np.cos(angle), crown + tall * out * np.sin(angle)
        strength = 0.5 + 0.3 * (i / 44) + 0.13 * (y - crown) + rng.uniform(-0.06, 0.06)
        stand.blob(x, y, rng.uniform(0.22, 0.5), rng.uniform(0.2, 0.42), tone(leaf, strength))


def _lamp_post(stand: _Stand, tone: Tone, rng: np.random.Generator) -> None:
    grey = tone((96, 100, 104))
    stand.box((-0.08, 0.08), (0, 7.6), grey)
    stand.box((-0.05, 2.0), (7.5, 7.66), grey)
    stand.box((1.5, 2.3), (7.42, 7.6), tone((210, 206, 190) if rng.random() < 0.5 else (120, 122, 124)))


def _sign(stand: _Stand, tone: Tone, rng: np.random.Generator) -> None:
    stand.box((-0.04, 0.04), (0, 2.6), tone((150, 152, 154)))
    face, ring = ((30, 80, 170), (236, 236, 236)) if rng.random() < 0.5 else ((236, 236, 232), (200, 30, 34))
    if rng.random() < 0.5:
        stand.blob(0, 2.7, 0.36, 0.36, tone(ring))
        stand.blob(0, 2.7, 0.28, 0.28, tone(face))
    else:
        stand.box((-0.45, 0.45), (2.2, 3.0), tone(ring))
        stand.box((-0.4, 0.4), (2.25, 2.95), tone(face))


def _bin(stand: _Stand, tone: Tone, rng: np.random.Generator) -> None:
    colour = (60, 90, 70) if rng.random() < 0.5 else (90, 92, 96)
    stand.blob(0, 0, 0.4, 0.08, (12, 12, 16), alpha=70, mask=False)
    stand.box((-0.28, 0.28), (0, 0.9), tone(colour))
    stand.box((-0.32, 0.32), (0.86, 1.0), tone(colour, 0.6))
