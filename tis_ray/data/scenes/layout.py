"""Who stands where: things of random classes on the free places of a street, sorted from far to near."""

from dataclasses import dataclass

import numpy as np

from tis_ray.data.scenes.classes import SceneClass
from tis_ray.data.scenes.furniture import FURNITURE
from tis_ray.data.scenes.street import Street

_EMPTY = 0.04  # share of pictures without any instance
_TRIES = 16
_GAP_TIMES = 1.7
_FAR, _FAR_TIMES = 0.14, 3.0  # some may stand this many times farther than usual
_MOST_HIDDEN = 0.65  # share of a thing that another may hide, roughly
SIGHT = 0.45  # X by Z at about the edge of the picture
_EYE_M = 1.65  # about the height of the camera
_SIZES_M = {  # length, width, height
    "car": (4.6, 1.85, 1.5),
    "van": (4.7, 1.95, 2.0),
    "truck": (7.4, 2.4, 3.1),
    "bus": (11.5, 2.5, 3.1),
    "motorbicycle": (1.9, 0.7, 1.3),
    "bicycle": (1.8, 0.6, 1.1),
    "tricycle": (2.7, 1.2, 1.8),
    "person": (0.6, 0.6, 1.7),
}
_DEPTHS_M = {  # nearest and farthest; drawn evenly in their logarithm
    "car": (6.0, 44.0),
    "van": (6.0, 44.0),
    "truck": (9.5, 70.0),
    "bus": (12.0, 80.0),
    "motorbicycle": (4.8, 24.0),
    "bicycle": (4.5, 20.0),
    "tricycle": (6.0, 34.0),
    "person": (4.2, 17.0),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """Something at (x, z) heading `yaw`; `label` -1 is furniture. `span` is its footprint x1, x2, z1, z2."""

    kind: str
    label: int
    x: float
    z: float
    yaw: float
    height: float
    span: tuple[float, float, float, float]
    seed: int

    @property
    def breadth(self) -> float:
        """Metres across the view."""
        return self.span[1] - self.span[0]


def populate(rng: np.random.Generator, street: Street, classes: tuple[SceneClass, ...]) -> list[Thing]:
    """Everything that stands in the street, farthest first."""
    number = 0 if rng.random() < _EMPTY else int(np.clip(rng.gamma(6.0, 3.0), 6, 30))
    weights = np.array([c.weight for c in classes])
    labels = rng.choice(len(classes), size=number, p=weights / weights.sum())
    things: list[Thing] = []
    for label in labels.tolist():
        _add(rng, street, classes[label].kind, label, things)
    for _ in range(int(rng.integers(4, 14))):
        kind, side = str(rng.choice(FURNITURE)), int(rng.integers(2))
        kerb, z = street.kerbs[side], float(np.exp(rng.uniform(2.0, 4.4)))
        x = kerb + (rng.uniform(0.5, 0.9) if side else -rng.uniform(0.5, 0.9))
        if not street.in_crossing(z, 2.0):
            put(rng, things, kind, -1, x, z, 0.0, (0.4, 0.4, 3.0))
    return [things[i] for i in far_to_near(things)]


def _add(rng: np.random.Generator, street: Street, kind: str, label: int, things: list[Thing]) -> None:
    """One thing at the first free place of a few that are drawn; none where all are taken."""
    near, far = _DEPTHS_M[kind]
    for _ in range(_TRIES):
        reach = far * (_FAR_TIMES if rng.random() < _FAR else 1.0)
        z = float(np.exp(rng.uniform(np.log(near), np.log(reach))))
        if kind == "person":
            x, z, yaw = _on_foot(rng, street, z)
        elif kind in ("bicycle", "motorbicycle", "tricycle"):
            x, yaw = _by_the_kerb(rng, street)
        else:
            x, z, yaw = _on_the_road(rng, street, kind, z)
        in_sight = abs(x) < SIGHT * z and z - _SIZES_M[kind][0] / 2 > 2.5
        if in_sight and put(rng, things, kind, label, x, z, yaw, _SIZES_M[kind]):
            return


def _on_the_road(rng: np.random.Generator, street: Street, kind: str, z: float) -> tuple[float, float, float]:
    """In a lane, parked at the kerb, or on the crossing road."""
    where = rng.random()
    if street.crossing and where < 0.3:
        start, stop = street.crossing
        forth = rng.random() < 0.5
        lane = start + (stop - start) * (0.3 if forth else 0.7)
        low, high = street.walls[0] + _SIZES_M[kind][0] / 2, street.walls[1] - _SIZES_M[kind][0] / 2
        return float(rng.uniform(min(low, high), high)), float(lane), np.pi / 2 * (1 if forth else -1)
    side = int(rng.integers(2))
    if where < 0.55 and street.parking[side] and kind != "bus" and not street.in_crossing(z, 6.0):
        x = street.kerbs[side] + (-1.25 if side else 1.25)
        turned = np.pi if rng.random() < 0.1 else 0.0
        return x, z, (0.0 if side else np.pi) + turned + rng.normal(0, 0.02)
    x, heading = street.lanes[int(rng.integers(len(street.lanes)))]
    changing = rng.normal(0, 0.18) if rng.random() < 0.12 else rng.normal(0, 0.015)
    ahead = _GAP_TIMES if x == 0 else 1.0  # one keeps a distance in one's own lane
    return x + rng.normal(0, 0.2), z * ahead, heading + changing


def _by_the_kerb(rng: np.random.Generator, street: Street) -> tuple[float, float]:
    """Riding near the kerb, standing on the pavement or crossing the road."""
    side = int(rng.integers(2))
    out, heading = (1 if side else -1), (0.0 if side else np.pi)
    where = rng.random()
    if where < 0.2:
        return float(rng.uniform(*street.kerbs)), rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.25)
    if where < 0.45:
        return street.kerbs[side] + out * rng.uniform(0.6, 2.2), rng.uniform(0, 2 * np.pi)
    return street.kerbs[side] - out * rng.uniform(0.7, 3.5), heading + rng.normal(0, 0.12)


def _on_foot(rng: np.random.Generator, street: Street, z: float) -> tuple[float, float, float]:
    """On a pavement, on the zebra or somewhere on the road."""
    where = rng.random()
    if where < 0.2:
        z = street.crossing[0] - rng.uniform(0.4, 3.0) if street.crossing else z
        return float(rng.uniform(*street.kerbs)), z, 0.0
    side = int(rng.integers(2))
    low, high = sorted((street.kerbs[side], street.walls[side]))
    return float(rng.uniform(low, high)), z, 0.0


def put(
    rng: np.random.Generator,
    things: list[Thing],
    kind: str,
    label: int,
    x: float,
    z: float,
    yaw: float,
    size_m: tuple[float, float, float],
) -> bool:
    """Add a thing unless its footprint meets another's, or one of the two would hardly be seen."""
    length, width, height = size_m
    half_x = (abs(np.sin(yaw)) * length + abs(np.cos(yaw)) * width) / 2
    half_z = (abs(np.cos(yaw)) * length + abs(np.sin(yaw)) * width) / 2
    span = (float(x - half_x), float(x + half_x), float(z - half_z), float(z + half_z))
    if any(span[0] < t.span[1] and t.span[0] < span[1] and span[2] < t.span[3] and t.span[2] < span[3] for t in things):
        return False
    thing = Thing(kind, label, float(x), float(z), float(yaw), height, span, int(rng.integers(2**31)))
    if label >= 0 and any(max(_hidden(thing, t), _hidden(t, thing)) > _MOST_HIDDEN for t in things):
        return False
    things.append(thing)
    return True


def _hidden(thing: Thing, other: Thing) -> float:
    """About which share of `thing` the nearer `other` hides, both taken as boards across the view."""
    if other.z >= thing.z:
        return 0.0
    low, high = (thing.x + s * thing.breadth / 2 for s in (-1, 1))
    scale = thing.z / other.z
    cover = min(high, (other.x + other.breadth / 2) * scale) - max(low, (other.x - other.breadth / 2) * scale)
    above = thing.height - _EYE_M - (other.height - _EYE_M) * scale
    return max(cover, 0.0) / (high - low) * (1 - min(max(above, 0.0) / thing.height, 1.0))


def far_to_near(things: list[Thing]) -> list[int]:
    """An order in which every thing comes before those that hide it; the farthest first among the free."""
    spans = np.array([thing.span for thing in things]).reshape(-1, 4)
    x1, x2, z1, z2 = spans.T
    rays = np.stack([x / z for x in (x1, x2) for z in (z1, z2)])
    low, high = rays.min(axis=0), rays.max(axis=0)
    meet = (low[:, None] < high) & (low < high[:, None])
    nearer = z2[:, None] <= z1
    beside = ~nearer & ~nearer.T
    inner = (x2[:, None] <= x1) & (x1 > 0) | (x2 <= x1[:, None]) & (x2 < 0)
    hides = meet & (nearer | beside & inner)  # hides[i, j]: i stands before j
    left, order = list(np.argsort(-z1, kind="stable")), []
    while left:
        chosen = next((i for i in left if not hides[i, left].any()), left[0])
        order.append(int(chosen))
        left.remove(chosen)
    return order
