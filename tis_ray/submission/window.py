"""A bound on what is in flight, for one caller or for several who take turns."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, Semaphore
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Window:
    """Threads that work on at most `size` items at any time, whoever's they are.

    Calls of several threads take turns: the items of one begin when the last of the one before has begun, so that the
    window stays full while a caller waits for its last results and puts them away. Close it at the end.
    """

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="window")
        self._places = Semaphore(size)
        self._turn = Lock()

    def results(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Generator[_Result, None, None]:
        """What `work` makes of each item, in their order; an item keeps its place until its result is taken.

        Close the generator when stopping early: what has not begun then never does, and others get their turn.
        """
        waiting: deque[Future[_Result]] = deque()
        try:
            with self._turn:
                for item in items:
                    while not self._places.acquire(blocking=not waiting):
                        yield self._first(waiting)
                    waiting.append(self._pool.submit(work, item))
            while waiting:
                yield self._first(waiting)
        finally:
            for future in waiting:
                future.cancel()
                self._places.release()

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _first(self, waiting: deque[Future[_Result]]) -> _Result:
        try:
            return waiting.popleft().result()
        finally:
            self._places.release()
