"""How the benchmarks take time: both ways in turn, in one process, on one thread, median and minimum."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median and the minimum of several."""

    median: float
    minimum: float

    @staticmethod
    def of(seconds: Sequence[float]) -> "Timing":
        return Timing(statistics.median(seconds), min(seconds))


@dataclass(frozen=True)
class Row:
    """One line of a table: what was done, by whom, how long it took each, and what must be reached."""

    task: str
    peer: str
    theirs: Timing
    ours: Timing
    target: float

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer, by the medians."""
        return self.theirs.median / self.ours.median


ROUNDS = 5


def compare(
    task: str,
    peer: str,
    theirs: Callable[[], Any],
    ours: Callable[[], Any],
    *,
    target: float,
    repeats: int = 15,
    peer_repeats: int | None = None,
) -> Row:
    """Time both after one warm-up call each: in rounds, so that a busy moment of the machine meets both.

    In each round first the peer is called several times in a row, then ours; a slow peer may be called less often.
    """
    ours()
    theirs()
    own_s: list[float] = []
    peer_s: list[float] = []
    for i in range(ROUNDS):
        peer_s += several(theirs, _share(peer_repeats or repeats, i))
        own_s += several(ours, _share(repeats, i))
    return Row(task, peer, Timing.of(peer_s), Timing.of(own_s), target)


def several(function: Callable[[], Any], count: int) -> list[float]:
    """Wall seconds of `count` calls in a row, with the garbage collector out of the way."""
    gc.collect()
    gc.disable()
    seconds = []
    try:
        for _ in range(count):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def _share(repeats: int, i: int) -> int:
    """How many of the calls fall into round `i`."""
    return repeats * (i + 1) // ROUNDS - repeats * i // ROUNDS
