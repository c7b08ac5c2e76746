"""The plan of one street: lanes, kerbs, pavements, the rows of buildings and perhaps a crossing road.

Traffic keeps to the right. X is measured from the camera, which drives in the middle of its own lane.
"""

from dataclasses import dataclass

import numpy as np

LANE_M = 3.4


@dataclass(frozen=True, slots=True)
class Building:
    """A house whose front stands along the pavement from `z` to `z` + `length`; `seed` paints it."""

    side: int  # -1 left, 1 right
    z: float
    length: float
    height: float
    seed: int


@dataclass(frozen=True, slots=True)
class Street:
    """`lanes` are (centre X, heading in radians); kerbs and walls are X of the left and the right one."""

    lanes: tuple[tuple[float, float], ...]
    divider: float | None
    kerbs: tuple[float, float]
    walls: tuple[float, float]
    parking: tuple[bool, bool]
    crossing: tuple[float, float] | None
    buildings: tuple[Building, ...]

    @staticmethod
    def draw(rng: np.random.Generator) -> "Street":
        """A street of one to three lanes each way, the left ones perhaps missing (one-way)."""
        ours, theirs = int(rng.integers(1, 4)), int(rng.choice([0, 1, 1, 2, 2, 3]))
        mine = int(rng.integers(ours))
        left = -LANE_M * (mine + 0.5)
        lanes = [(LANE_M * (i - mine), 0.0) for i in range(ours)]
        lanes += [(left - LANE_M * (i + 0.5), np.pi) for i in range(theirs)]
        parking = (bool(rng.random() < 0.55), bool(rng.random() < 0.55))
        edges = [left - LANE_M * theirs, left + LANE_M * ours]
        kerbs = edges[0] - 2.4 * parking[0] - 0.4, edges[1] + 2.4 * parking[1] + 0.4
        walls = kerbs[0] - rng.uniform(3.0, 7.0), kerbs[1] + rng.uniform(3.0, 7.0)
        start = rng.uniform(14, 38)
        crossing = (start, start + rng.uniform(9, 15)) if rng.random() < 0.55 else None
        buildings = [house for side in (-1, 1) for house in _row(rng, side, crossing)]
        return Street(tuple(lanes), left if theirs else None, kerbs, walls, parking, crossing, tuple(buildings))

    def in_crossing(self, z: float, margin: float = 0.0) -> bool:
        """Whether `z` lies on the crossing road."""
        return self.crossing is not None and self.crossing[0] - margin < z < self.crossing[1] + margin


def _row(rng: np.random.Generator, side: int, crossing: tuple[float, float] | None) -> list[Building]:
    """Houses of one side from beside the camera to where the haze takes them."""
    houses, z, storeys = [], rng.uniform(-12.0, 2.0), rng.uniform(3, 9)
    while z < 230:
        length = rng.uniform(9, 26)
        if crossing and z < crossing[1] + 2 and z + length > crossing[0] - 2:
            if crossing[0] - 2 - z > 6:
                length = crossing[0] - 2 - z
            else:
                z = crossing[1] + 2
                continue
        height = 3.2 * float(np.clip(rng.normal(storeys, 2.5), 1.6, 22)) * (2.2 if rng.random() < 0.08 else 1)
        if rng.random() > 0.1:
            houses.append(Building(side, z, length, height, int(rng.integers(2**31))))
        z += length + (rng.uniform(2, 12) if rng.random() < 0.25 else 0)
    return houses
