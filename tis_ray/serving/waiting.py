"""The line in front of a model: who waits, who is next, and who may come along.

One thread serves it, so that no two forwards run at once. Whenever that is free it takes who has waited longest,
together with those behind who may share a forward with it. It never waits for company: under little work a picture is
alone and as quick as can be, under much work the forwards grow by themselves.

Second passes go before first ones. What is kept of a picture from its first pass takes memory until its second one is
done, so whoever has begun is finished before another begins. No first pass is left standing by that, since each brings
at most one second pass with it.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Any

from tis_ray.serving.messages import Deadline, DeadlineError


class Turn:
    """One call's place in the line.

    work:    what is to be done, in the words of whoever does it
    kind:    those of one kind may share a forward; None where it can share none
    ahead:   whether it goes before all that are not
    answer:  what comes of it, and the seconds that took
    """

    def __init__(self, work: Any, *, deadline_s: float, kind: Hashable | None = None, ahead: bool = False) -> None:
        self.work = work
        self.kind = kind
        self.ahead = ahead
        self.answer: Future[tuple[Any, float]] = Future()
        self.since = perf_counter()
        self._deadline = Deadline(deadline_s)
        self._given_up = False

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return self._deadline.passed

    def wanted(self) -> bool:
        """Whether anybody still waits for the answer."""
        return not self._given_up and not self.late

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self._given_up = True


class Line:
    """Turns that wait; for several threads at once. `on_length` is told how many wait, whenever that changes."""

    def __init__(self, on_length: Callable[[int], None]) -> None:
        self._turns: list[Turn] = []
        self._lock = threading.Lock()
        self._on_length = on_length

    def __len__(self) -> int:
        return len(self._turns)

    def join(self, turn: Turn) -> None:
        """Wait behind all others."""
        with self._lock:
            self._turns.append(turn)
            self._on_length(len(self._turns))

    def leave(self, turn: Turn) -> None:
        """Wait no longer; nothing happens to one whose turn has come already."""
        turn.give_up()
        with self._lock:
            if turn in self._turns:
                self._turns.remove(turn)
                self._on_length(len(self._turns))

    def take(self, room: Callable[[Turn], int]) -> list[Turn]:
        """Whose turn it is: the next in line and those of its kind, `room(next)` of them at most; none where none wait.

        All of them, and those that are late, have left the line then. Who is late gets a `DeadlineError`.
        """
        with self._lock:
            late = [turn for turn in self._turns if turn.late]
            waiting = [turn for turn in self._turns if not turn.late]
            taken = _first(waiting, room)
            self._turns = [turn for turn in waiting if turn not in taken]
            self._on_length(len(self._turns))
        for turn in late:
            if turn.answer.set_running_or_notify_cancel():
                turn.answer.set_exception(DeadlineError("the model was not free in time"))
        return [turn for turn in taken if turn.answer.set_running_or_notify_cancel()]


def _first(waiting: Sequence[Turn], room: Callable[[Turn], int]) -> list[Turn]:
    """The next of those who wait, in the order in which they came, and its company."""
    if not waiting:
        return []
    first = next((turn for turn in waiting if turn.ahead), waiting[0])
    if first.kind is None:
        return [first]
    company = [turn for turn in waiting if turn is not first and turn.kind == first.kind and turn.ahead == first.ahead]
    return [first, *company[: max(room(first), 1) - 1]]
