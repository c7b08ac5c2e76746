"""The classes of each preset and how often each is drawn."""

from dataclasses import dataclass

import numpy as np

from tis_ray.data.scenes.light import Colour
from tis_ray.errors import InputError
from tis_ray.instances import Categories


@dataclass(frozen=True, slots=True)
class SceneClass:
    """One class: `kind` says how it is painted, `colour` fixes its paint where the class is about one."""

    category_id: int
    name: str
    supercategory: str
    kind: str
    weight: float
    colour: Colour | None = None


def scene_classes(preset: str) -> tuple[SceneClass, ...]:
    """The classes of a preset in label order. Raises `InputError` naming the presets there are."""
    if preset not in _PRESETS:
        raise InputError(f"preset: expected one of {', '.join(_PRESETS)}; got {preset!r}")
    return _PRESETS[preset]


def categories(preset: str) -> Categories:
    """Ids, names and supercategories of a preset's classes."""
    classes = scene_classes(preset)
    return Categories(
        tuple(c.category_id for c in classes),
        tuple(c.name for c in classes),
        tuple(c.supercategory for c in classes),
    )


# Weights: thousands of training instances in WAD 2018.
_DRIVING = (
    SceneClass(33, "car", "vehicle", "car", 394.9),
    SceneClass(34, "motorbicycle", "vehicle", "motorbicycle", 15.0),
    SceneClass(35, "bicycle", "vehicle", "bicycle", 17.5),
    SceneClass(36, "person", "human", "person", 124.2),
    SceneClass(38, "truck", "vehicle", "truck", 21.1),
    SceneClass(39, "bus", "vehicle", "bus", 30.5),
    SceneClass(40, "tricycle", "vehicle", "tricycle", 10.7),
)

_KINDS = ("car", "van", "person", "bus", "truck", "motorbicycle", "bicycle", "tricycle")
_PAINTS: dict[str, Colour] = {
    "white": (232, 232, 232),
    "black": (34, 35, 38),
    "red": (196, 26, 30),
    "blue": (28, 74, 178),
    "yellow": (232, 184, 24),
    "green": (36, 132, 66),
}
_ZIPF = 1.15


def _longtail() -> tuple[SceneClass, ...]:
    """Every kind in every paint, 48 classes, ranked at random once and weighted 1 / rank ** 1.15."""
    pairs = [(kind, paint) for kind in _KINDS for paint in _PAINTS]
    ranks = np.random.default_rng(2020).permutation(len(pairs)) + 1
    return tuple(
        SceneClass(
            i + 1,
            f"person in {paint}" if kind == "person" else f"{paint} {kind}",
            "human" if kind == "person" else "vehicle",
            kind,
            float(rank) ** -_ZIPF,
            _PAINTS[paint],
        )
        for i, ((kind, paint), rank) in enumerate(zip(pairs, ranks.tolist(), strict=True))
    )


_PRESETS = {"driving": _DRIVING, "longtail": _longtail()}
