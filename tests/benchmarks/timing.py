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
    """Time both, in turn, after one warm-up call each; the slower peer may be called less often."""
    ours()
    theirs()
    own_s, peer_s = [], []
    times = peer_repeats or repeats
    for i in range(max(repeats, times)):
        if i < repeats:
            own_s.append(seconds_of(ours))
        if i < times:
            peer_s.append(seconds_of(theirs))
    return Row(task, peer, Timing.of(peer_s), Timing.of(own_s), target)


def seconds_of(function: Callable[[], Any]) -> float:
    """Wall time of one call, with the garbage collector out of the way."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    finally:
        gc.enable()
