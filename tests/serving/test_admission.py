"""Who is let in: a simulated service under a virtual clock, from much too little work to ten times too much."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tis_ray.serving.admission import Pace

DEADLINE_S = 20.0


@dataclass
class House:
    """A service of `replicas` that each answer up to `batch` requests at a time, first come first served, in the
    seconds that `takes` says for so many; who is not answered after `DEADLINE_S` goes away."""

    takes: Callable[[int], float]
    replicas: int = 1
    batch: int = 1
    now_s: float = 0.0
    took_s: list[float] = field(default_factory=list)
    late: int = 0
    refused: list[tuple[float, int]] = field(default_factory=list)
    busy_s: float = 0.0

    def __post_init__(self) -> None:
        self.pace = Pace(clock=lambda: self.now_s)
        self.waiting: list = []
        self.free = self.replicas
        self.events: list = []
        self.numbers = itertools.count()

    def run(self, arrivals: list[float]) -> None:
        for at_s in arrivals:
            self.at(at_s, self.arrive)
        while self.events:
            self.now_s, _, event = heapq.heappop(self.events)
            event()

    def at(self, at_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (at_s, next(self.numbers), event))

    def arrive(self) -> None:
        if not self.pace.in_time(DEADLINE_S):
            self.refused.append((self.now_s, self.pace.retry_after_s(DEADLINE_S)))
            return
        entered = self.pace.enter()
        self.waiting.append(entered)
        self.at(self.now_s + DEADLINE_S, lambda: self.give_up(entered))
        self.serve()

    def give_up(self, entered) -> None:
        if entered in self.waiting:
            self.waiting.remove(entered)
            self.late += 1
            self.pace.leave(entered, answered=False, late=True)

    def serve(self) -> None:
        while self.free and self.waiting:
            some, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
            self.free -= 1
            seconds = self.takes(len(some))
            self.busy_s += seconds
            self.at(self.now_s + seconds, lambda some=some: self.answer(some))

    def answer(self, some: list) -> None:
        self.free += 1
        for entered in some:
            took_s = self.now_s - entered.at_s
            self.took_s.append(took_s)
            self.pace.leave(entered, answered=True)
        self.serve()


def evenly(every_s: float, until_s: float, since_s: float = 0.0) -> list[float]:
    return [since_s + n * every_s for n in range(int((until_s - since_s) / every_s))]


KINDS = [
    pytest.param({"takes": lambda _: 0.5}, 2.0, id="one model, one picture at a time"),
    pytest.param({"takes": lambda _: 2.0, "replicas": 4}, 2.0, id="four replicas"),
    pytest.param({"takes": lambda n: 0.5 + 0.125 * n, "batch": 8}, 8 / 1.5, id="shared forwards"),
    pytest.param({"takes": lambda _: 8.0, "replicas": 4}, 0.5, id="long requests of four replicas"),
    pytest.param({"takes": lambda _: 8.0}, 0.125, id="a model that takes most of the time alone"),
]


@pytest.mark.parametrize(("kind", "per_s"), KINDS)
def test_under_ten_times_the_work_all_who_are_let_in_are_answered_in_time_and_the_house_stays_busy(kind, per_s):
    house = House(**kind)
    calm_s, end_s = 120.0, 420.0
    house.run([*evenly(2 / per_s, calm_s), *evenly(0.1 / per_s, end_s, calm_s)])
    print(len(house.took_s), house.late, len(house.refused), max(house.took_s), house.busy_s)
    assert house.late <= 1 + 0.002 * len(house.took_s)
    assert max(house.took_s) <= DEADLINE_S
    in_storm = (end_s - calm_s) * per_s
    assert 0.85 * in_storm < len(house.took_s) - calm_s * per_s / 2 < 1.2 * in_storm
    assert len(house.refused) > 8 * in_storm
