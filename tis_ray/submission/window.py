"""A bound on what is in flight, for one caller or for several who take turns."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, Semaphore
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_AHEAD = 4  # results of so many windows wait for one that is late, so that what is left of them is not held up by it


class Window:
    """Threads that work on at most `size` items at any time, whoever's they are.

    Calls of several threads take turns: the items of one begin when the last of the one before has begun, so that the
    window stays full while a caller waits for its last results and puts them away. Close it at the end.
    """

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="window")
        self._places = Semaphore(size)
        self._turn = Lock()
        self._most = _AHEAD * size

    def results(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Generator[_Result, None, None]:
        """What `work` makes of each item, in their order.

        Close the generator when stopping early: what has not begun then never does, and others get their turn.
        """
        waiting: deque[Future[_Result]] = deque()
        try:
            with self._turn:
                for item in items:
                    while waiting and (waiting[0].done() or len(waiting) == self._most):
                        yield waiting.popleft().result()
                    self._places.acquire()
                    waiting.append(self._pool.submit(self._at_its_place, work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                if future.cancel():
                    self._places.release()

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _at_its_place(self, work: Callable[[_Item], _Result], item: _Item) -> _Result:
        try:
            return work(item)
        finally:
            self._places.release()
