"""Where long thin things stand, hang and lie in a street, among vehicles, people and trees."""

import numpy as np

from tis_ray.data.scenes.classes import SceneClass
from tis_ray.data.scenes.layout import SIGHT, Thing, far_to_near, put
from tis_ray.data.scenes.street import Street
from tis_ray.data.scenes.thin import SPAN_M

_EMPTY = 0.04  # share of pictures without any instance
_DEPTHS_M = {  # nearest and farthest; drawn evenly in their logarithm
    "cable": (7.0, 60.0),
    "pole": (4.5, 60.0),
    "ladder": (4.0, 45.0),
    "crane": (14.0, 130.0),
    "barrier": (4.5, 45.0),
    "hose": (3.2, 26.0),
}
_LENGTHS_M = {"pole": (3.0, 9.0), "ladder": (2.4, 7.5), "crane": (9.0, 30.0), "barrier": (2.5, 5.5)}
_LYING = 0.3  # share of poles that have been put down
_BESIDE = (
    ("car", (4.6, 1.85, 1.5)),
    ("van", (4.7, 1.95, 2.0)),
    ("person", (0.6, 0.6, 1.7)),
    ("truck", (7.4, 2.4, 3.1)),
)


def populate_thin(rng: np.random.Generator, street: Street, classes: tuple[SceneClass, ...]) -> list[Thing]:
    """Everything in the street in the order of painting: what lies on the ground, then the rest, farthest first."""
    number = 0 if rng.random() < _EMPTY else int(np.clip(rng.gamma(5.0, 1.5), 3, 16))
    weights = np.array([c.weight for c in classes])
    labels = rng.choice(len(classes), size=number, p=weights / weights.sum()).tolist()
    line = street.kerbs[side := int(rng.integers(2))] + (0.8 if side else -0.8)
    things = [_thin(rng, street, classes[label].kind, label, line) for label in labels]
    carriers = [k for k, c in enumerate(classes) if c.kind == "pole"]
    if any(thing.kind == "cable" and _runs_along(thing) for thing in things):
        start = rng.uniform(6, 14)
        things += [_carrier(rng, line, start + SPAN_M * i, label) for label in carriers for i in range(3)]
    upright = [thing for thing in things if thing.height] + _bystanders(rng, street, things, classes)
    flat = [thing for thing in things if not thing.height]
    return flat + [upright[i] for i in far_to_near(upright)]


def _thin(rng: np.random.Generator, street: Street, kind: str, label: int, line: float) -> Thing:
    near, far = _DEPTHS_M[kind]
    z = float(np.exp(rng.uniform(np.log(near), np.log(far))))
    x = float(rng.uniform(max(street.walls[0], -SIGHT * z), min(street.walls[1], SIGHT * z)))
    yaw = float(rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.5))
    if kind == "cable":
        return _hung(rng, street, label, z, line)
    if kind == "hose":
        half, reach = rng.uniform(0.15, 0.5) * z, rng.uniform(0.1, 0.5) * z
        return _thing(rng, kind, label, x, z, yaw, 0.0, (x - half, x + half, max(z - reach, 2.2), z + reach))
    height = float(rng.uniform(*_LENGTHS_M[kind]))
    if kind == "pole" and rng.random() < _LYING:
        height, yaw = 0.0, float(rng.uniform(0, 2 * np.pi))
    return _thing(rng, kind, label, x, z, yaw, height, (x - 0.3, x + 0.3, z - 0.3, z + 0.3))


def _hung(rng: np.random.Generator, street: Street, label: int, z: float, line: float) -> Thing:
    """A cable from house to house, or along the street on poles."""
    height, yaw = float(rng.uniform(4.5, 7.5)), float(rng.choice([-1, 1]))
    if rng.random() < 0.5:
        slant = min(abs(float(rng.normal(0, 0.25))), 0.6) * z
        return _thing(rng, "cable", label, 0.0, z, yaw, height, (*street.walls, z - slant, z + slant))
    x, start = line + float(rng.uniform(-0.9, 0.9)), float(rng.uniform(1.5, 8.0))
    return _thing(rng, "cable", label, x, start, 0.0, height, (x, x, start, start + SPAN_M * int(rng.integers(1, 4))))


def _runs_along(cable: Thing) -> bool:
    return cable.span[0] == cable.span[1]


def _carrier(rng: np.random.Generator, line: float, z: float, label: int) -> Thing:
    """A pole under cables."""
    x, z = float(line + rng.normal(0, 0.1)), float(z)
    return _thing(rng, "pole", label, x, z, 0.0, float(rng.uniform(6.4, 8.0)), (x - 0.3, x + 0.3, z - 0.3, z + 0.3))


def _thing(
    rng: np.random.Generator,
    kind: str,
    label: int,
    x: float,
    z: float,
    yaw: float,
    height: float,
    span: tuple[float, float, float, float],
) -> Thing:
    return Thing(kind, label, x, z, yaw, height, span, int(rng.integers(2**31)))


def _bystanders(
    rng: np.random.Generator, street: Street, things: list[Thing], classes: tuple[SceneClass, ...]
) -> list[Thing]:
    """Vehicles that cranes stand on, parked and driving ones, people; and trees, which are labelled as nothing."""
    labels = {c.kind: label for label, c in enumerate(classes)}
    found: list[Thing] = []
    for crane in things:
        if crane.kind == "crane":
            put(rng, found, "truck", labels["truck"], crane.x, crane.z + 2.0, crane.yaw, (7.4, 2.4, 3.1))
    for _ in range(int(rng.integers(2, 10))):
        kind, size_m = _BESIDE[int(rng.integers(len(_BESIDE)))]
        z, side = float(np.exp(rng.uniform(np.log(6.0), np.log(45.0)))), int(rng.integers(2))
        if kind == "person":
            x, yaw = rng.uniform(street.walls[0], street.walls[1]), 0.0
        elif street.parking[side] and rng.random() < 0.5:
            x, yaw = street.kerbs[side] + (-1.25 if side else 1.25), 0.0 if side else np.pi
        else:
            x, yaw = street.lanes[int(rng.integers(len(street.lanes)))]
            z *= 1.7 if x == 0 else 1.0
        if abs(x) < SIGHT * z and z - size_m[0] / 2 > 2.5:
            put(rng, found, kind, labels[kind], float(x), z, float(yaw), size_m)
    for _ in range(int(rng.integers(2, 8))):
        kind, side, z = (
            ("tree", "tree", "bin")[int(rng.integers(3))],
            int(rng.integers(2)),
            np.exp(rng.uniform(2.0, 4.4)),
        )
        put(rng, found, kind, -1, street.kerbs[side] + (0.7 if side else -0.7), float(z), 0.0, (0.4, 0.4, 3.0))
    return found
