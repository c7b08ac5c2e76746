"""The classes of each preset and how often each is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

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
    return _PRESETS[preset]()


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

# Long things that fill little of their boxes, what a mask head sees too coarsely; and what stands beside them, in
# numbers of its own.
_THIN = (
    SceneClass(1, "cable", "line", "cable", 3.0),
    SceneClass(2, "pole", "structure", "pole", 2.0),
    SceneClass(3, "ladder", "structure", "ladder", 2.5),
    SceneClass(4, "crane", "structure", "crane", 1.5),
    SceneClass(5, "barrier", "structure", "barrier", 2.5),
    SceneClass(6, "hose", "line", "hose", 2.0),
    SceneClass(7, "car", "vehicle", "car", 0.0),
    SceneClass(8, "van", "vehicle", "van", 0.0),
    SceneClass(9, "truck", "vehicle", "truck", 0.0),
    SceneClass(10, "person", "human", "person", 0.0),
)

_KINDS = ("car", "person", "van", "bus", "truck", "bicycle", "motorbicycle", "tricycle")
_PAINTS: dict[str, Colour] = {
    "white": (232, 232, 232),
    "black": (34, 35, 38),
    "red": (196, 26, 30),
    "blue": (28, 74, 178),
    "yellow": (232, 184, 24),
    "green": (36, 132, 66),
}
_ZIPF = 1.15


@cache
def _longtail() -> tuple[SceneClass, ...]:
    """Every kind in every paint, 48 classes weighted 1 / rank ** 1.15: rare kinds in rare paints come last."""
    pairs = [(k + 1, p + 1) for k in range(len(_KINDS)) for p in range(len(_PAINTS))]
    ranked = sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair))
    classes = []
    for rank, (k, p) in enumerate(ranked, start=1):
        kind, paint = _KINDS[k - 1], list(_PAINTS)[p - 1]
        name = f"person in {paint}" if kind == "person" else f"{paint} {kind}"
        above = "human" if kind == "person" else "vehicle"
        classes.append(SceneClass(rank, name, above, kind, rank**-_ZIPF, _PAINTS[paint]))
    return tuple(classes)


_PRESETS: dict[str, Callable[[], tuple[SceneClass, ...]]] = {
    "driving": lambda: _DRIVING,
    "longtail": _longtail,
    "thin": lambda: _THIN,
}
