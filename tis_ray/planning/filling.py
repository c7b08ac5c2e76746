"""How many replicas of each deployment give the most frames a second on so many GPUs.

Every frame visits every deployment, so the slowest sets the pace: `n` replicas, each with 1/k of a GPU's time, finish
n / (k * seconds) frames a second, and the least of these is to be as large as can be. A share of time is also a share
of memory, so a deployment's memory says how many of its replicas a GPU holds at most.

All shares of a plan are of one *chain*, 1/k for numbers k of which each divides the next, as 1, 1/2, 1/4, 1/8. Of such
shares whatever sums up to no more than the GPUs fits onto them, in whatever order replicas come, as long as each goes
to the fullest GPU with room: no replica waits for ever because free halves lie on two GPUs. And the finest share that
the memory allows is never worse than a coarser one of the chain, since it rounds less. What remains is to raise the
slowest deployment until the next replica does not fit, which is best possible (`tests/planning/test_filling.py` tries
everything on small cases): any better plan has at least as many replicas of each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

MOST_PER_GPU = 32  # replicas that may share a GPU: each is a process, with a context of its own
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)
_EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Filling:
    """For each deployment the number of replicas, and how many of its replicas a GPU would hold."""

    replicas: tuple[int, ...]
    per_gpu: tuple[int, ...]

    @property
    def gpus(self) -> float:
        """How many GPUs the shares sum up to."""
        return sum(count / each for count, each in zip(self.replicas, self.per_gpu, strict=True))

    def throughput(self, seconds: Sequence[float]) -> float:
        """Frames a second, where a frame takes `seconds` of each deployment."""
        return min(
            count / (each * cost) for count, each, cost in zip(self.replicas, self.per_gpu, seconds, strict=True)
        )


def fill(seconds: Sequence[float], most_per_gpu: Sequence[int], gpus: int, *, nearly: float = 1.0) -> Filling | None:
    """The most frames a second on `gpus` GPUs; None where not even one replica of each deployment fits.

    seconds:      of one frame in each deployment, on a GPU of its own
    most_per_gpu: how many replicas of each deployment a GPU's memory holds, at least 1
    nearly:       the part of that throughput that is enough, if it takes fewer replicas

    Of plans that are fast enough, it is one with the fewest replicas.
    """
    useful = min(MOST_PER_GPU, max(most_per_gpu))
    found = [filling for chain in chains(useful) if (filling := _fill(seconds, most_per_gpu, gpus, chain))]
    if not found:
        return None
    enough = max(filling.throughput(seconds) for filling in found) * nearly * (1 - _EPS)
    near = [filling for filling in found if filling.throughput(seconds) >= enough]
    return min(near, key=lambda filling: (sum(filling.replicas), filling.per_gpu))


def least_gpus(most_per_gpu: Sequence[int]) -> int:
    """How many GPUs one replica of each deployment needs."""
    sums = (sum(1 / each for each in _finest(most_per_gpu, chain)) for chain in chains(MOST_PER_GPU))
    return min(math.ceil(total - _EPS) for total in sums)


def longest_alone(seconds: Sequence[float], filling: Filling) -> float:
    """The most seconds that a lone frame takes: of deployments that may lie on one GPU, which they share by turns.

    Those are any whose shares sum up to no more than a GPU; which do is up to Ray.
    """
    units = math.lcm(*filling.per_gpu)
    longest = [0.0] * (units + 1)  # by the part of a GPU that is taken
    for cost, each in zip(seconds, filling.per_gpu, strict=True):
        share = units // each
        for taken in range(units, share - 1, -1):
            longest[taken] = max(longest[taken], longest[taken - share] + cost)
    return longest[-1]


@cache
def chains(most: int) -> tuple[tuple[int, ...], ...]:
    """All chains 1, ..., k of numbers that divide the next one, with k at most `most`, by steps of primes alone: one
    with 1, 4 has nothing that the one with 1, 2, 4 has not."""
    found: list[tuple[int, ...]] = [(1,)]
    for chain in found:  # grows meanwhile
        found += [(*chain, chain[-1] * prime) for prime in _PRIMES if chain[-1] * prime <= most]
    return tuple(found)


def _finest(most_per_gpu: Sequence[int], chain: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(each for each in chain if each <= most) for most in most_per_gpu)


def _fill(seconds: Sequence[float], most_per_gpu: Sequence[int], gpus: int, chain: tuple[int, ...]) -> Filling | None:
    per_gpu = np.array(_finest(most_per_gpu, chain))
    units = chain[-1] // per_gpu  # whole numbers in place of shares: a GPU has chain[-1] of them
    room = gpus * chain[-1]
    if units.sum() > room:
        return None
    speeds = 1 / (per_gpu * np.asarray(seconds, dtype=np.float64))  # frames a second of one replica
    paces = _paces(speeds, room // units)
    low, high = 0, len(paces)
    while high - low > 1:  # the fastest pace that there is room for; the slowest, of one replica each, always fits
        middle = (low + high) // 2
        fits = int((_needed(paces[middle], speeds) * units).sum()) <= room
        low, high = (middle, high) if fits else (low, middle)
    return _coarser(_needed(paces[low], speeds), per_gpu, chain)


def _paces(speeds: NDArray[np.float64], most: NDArray[np.int64]) -> NDArray[np.float64]:
    """Every pace at which some deployment is exactly busy, from that of the slowest with one replica each, rising."""
    paces = [speed * np.arange(1, count + 1) for speed, count in zip(speeds, most, strict=True)]
    found: NDArray[np.float64] = np.unique(np.concatenate(paces))
    kept: NDArray[np.float64] = found[found >= speeds.min() * (1 - _EPS)]
    return kept


def _needed(pace: float, speeds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.maximum(1, np.ceil(pace / speeds - _EPS)).astype(np.int64)


def _coarser(counts: NDArray[np.int64], per_gpu: NDArray[np.int64], chain: tuple[int, ...]) -> Filling:
    """The same shares of GPUs for each deployment by fewer and larger replicas, where that comes out even."""
    found = []
    for count, each in zip(counts.tolist(), per_gpu.tolist(), strict=True):
        larger = next(k for k in chain if (count * k) % each == 0 and k <= each)
        found.append((count * larger // each, larger))
    return Filling(tuple(count for count, _ in found), tuple(each for _, each in found))
