"""What is in flight is bounded for all callers together; one's items begin once all of another's have begun."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tis_ray.submission.window import Window

WITHIN_S = 30


@pytest.fixture
def window() -> Iterator[Window]:
    with closing(Window(3)) as window:
        yield window


class Held:
    """Work that lasts until it is let go, and how far it has come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._let_go: set[str] = set()
        self.begun: list[str] = []
        self.running = self.most = 0

    def __call__(self, name: str) -> str:
        with self._changed:
            self.begun.append(name)
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: name in self._let_go, WITHIN_S)
            self.running -= 1
        return name.upper()

    def let_go(self, names: str) -> None:
        with self._changed:
            self._let_go.update(names)
            self._changed.notify_all()

    def wait(self, begun: Callable[[list[str]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: begun(self.begun), WITHIN_S), self.begun


def in_a_thread(window: Window, work: Callable[[str], str], items: str) -> tuple[threading.Thread, list[str]]:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(window.results(work, items)))
    thread.start()
    return thread, found


def test_results_come_in_the_order_of_the_items(window: Window) -> None:
    assert list(window.results(str.upper, "abcdefgh")) == list("ABCDEFGH")
    assert list(window.results(str.upper, "")) == []


def test_the_next_caller_begins_while_the_first_waits_for_its_last(window: Window) -> None:
    work = Held()
    first, found = in_a_thread(window, work, "abcd")
    work.wait(lambda begun: len(begun) == 3)
    second, others = in_a_thread(window, work, "xyz")
    work.let_go("a")  # d takes its place, for it is still the first one's turn
    work.wait(lambda begun: sorted(begun) == list("abcd"))
    work.let_go("b")
    work.wait(lambda begun: begun[4:] == ["x"])
    assert first.is_alive()
    assert work.running == 3
    work.let_go("cdxyz")
    first.join(WITHIN_S)
    second.join(WITHIN_S)
    assert (found, others) == (list("ABCD"), list("XYZ"))
    assert work.most == 3


def test_a_caller_that_stops_early_leaves_all_places_to_the_next(window: Window) -> None:
    work = Held()
    work.let_go("a")
    stopped = window.results(work, "abcdefgh")
    assert next(stopped) == "A"
    stopped.close()
    work.let_go("bcxyz")
    assert list(window.results(work, "xyz")) == list("XYZ")
    assert set(work.begun) <= set("abcxyz")  # what had not begun never did
    assert work.most <= 3


def test_work_that_fails_gives_its_place_back(window: Window) -> None:
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            list(window.results(lambda item: 1 // item, [1, 0, 1, 1, 1]))
    assert list(window.results(lambda item: 1 // item, [1, 1])) == [1, 1]
