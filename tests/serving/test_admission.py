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
    assert house.late == 0
    assert max(house.took_s) <= DEADLINE_S
    in_storm = (end_s - calm_s) * per_s
    assert 0.85 * in_storm < len(house.took_s) - calm_s * per_s / 2 < 1.2 * in_storm
    assert len(house.refused) > 8 * in_storm


def told(pace: Pace, clock: list[float], took_s: float, *, before: int = 0, **fate: bool) -> None:
    """A request that found `before` others, which it leaves there, is through after so many seconds."""
    others = [pace.enter() for _ in range(before)]
    entered = pace.enter()
    clock[0] += took_s
    pace.leave(entered, **(fate or {"answered": True}))
    for one in others:
        pace.leave(one, answered=False)


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def pace(clock) -> Pace:
    return Pace(clock=lambda: clock[0])


def test_nobody_is_refused_while_nothing_is_known(pace):
    for _ in range(100):
        assert pace.in_time(0.001)
        pace.enter()
    assert pace.retry_after_s(0.001) == 1


def test_an_idle_house_tries_even_what_it_will_hardly_do_in_time(pace, clock):
    told(pace, clock, 10.0)
    assert pace.in_time(1.0)


def test_a_request_takes_its_own_time_and_that_of_those_before_it(pace, clock):
    told(pace, clock, 2.0)
    told(pace, clock, 5.0, before=2)
    assert [pace.expected_s(before) for before in (0, 1, 2, 3)] == [2.0, 3.5, 5.0, 6.5]
    assert pace.expected_s(5) == 6.5 + 2 * 2.0  # nothing is known of so many


def test_until_company_was_seen_each_costs_as_much_as_one_alone(pace, clock):
    told(pace, clock, 2.0)
    assert pace.expected_s(3) == 8.0


def test_says_after_how_many_seconds_there_will_be_time_enough(pace, clock):
    told(pace, clock, 2.0)
    told(pace, clock, 4.0, before=1)
    inside = [pace.enter() for _ in range(6)]
    assert pace.expected_s() == 14.0
    assert not pace.in_time(10.0)
    assert pace.retry_after_s(10.0) == 14 - 6
    for entered in inside[:4]:  # that many are through after these eight seconds
        pace.leave(entered, answered=False)
    assert pace.in_time(10.0)


@pytest.mark.parametrize(
    ("fate", "changed"),
    [
        pytest.param({"answered": False}, False, id="it has failed, or its client has gone"),
        pytest.param({"answered": False, "late": True}, True, id="it was late"),
    ],
)
def test_of_who_was_not_answered_only_the_late_tell_anything(pace, clock, fate, changed):
    told(pace, clock, 2.0)
    told(pace, clock, 9.0, **fate)
    assert (pace.expected_s(0) > 2.0) == changed
    told(pace, clock, 0.5, **fate)  # late after less than was to be expected: it had less time
    assert (pace.expected_s(0) > 2.0) == changed


@pytest.mark.parametrize(("alone_s", "news_s"), [pytest.param(1.0, 10, id="short"), pytest.param(10.0, 50, id="long")])
def test_a_second_one_is_tried_now_and_then_to_see_whether_it_would_have_to_wait(pace, clock, alone_s, news_s):
    told(pace, clock, alone_s)
    told(pace, clock, 20.0, before=1)
    pace.enter()
    clock[0] += news_s
    assert not pace.in_time(20.0)
    clock[0] += 1
    assert pace.in_time(20.0)
    entered = pace.enter()
    assert not pace.in_time(20.0)
    clock[0] += 15.0
    pace.leave(entered, answered=False, late=True)  # nothing new, but it was tried
    assert not pace.in_time(20.0)


def test_one_that_was_slow_beside_another_keeps_nobody_out_for_long():
    house = House(takes=lambda _: 1.0, replicas=4)
    alone = house.pace.enter()
    house.now_s = 1.0
    house.pace.leave(alone, answered=True)
    other, slow = house.pace.enter(), house.pace.enter()
    house.now_s = 250.0
    house.pace.leave(slow, answered=True)
    house.pace.leave(other, answered=False)
    house.run(evenly(0.4, 400.0, 250.0))
    assert len(house.refused) > 0
    assert max(at_s for at_s, _ in house.refused) < 262.0
    assert house.late == 0


def test_what_company_cost_long_ago_counts_no_more_once_it_was_seen_anew(pace, clock):
    told(pace, clock, 2.0)
    told(pace, clock, 42.0, before=1)
    clock[0] += 100
    told(pace, clock, 3.0, before=1)
    assert pace.expected_s(1) == 3.0
    clock[0] += 100
    told(pace, clock, 42.0, before=1)  # a slow one is no more than one of many
    assert 3.0 < pace.expected_s(1) < 10.0
