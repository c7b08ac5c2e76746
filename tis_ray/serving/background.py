"""The items of an asynchronous generator for a caller that does not await, inside a running event loop or not."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing more comes; `error` says why, where it is not because all had come."""

    error: BaseException | None


def drawn(make: Callable[[], AsyncGenerator[Item, None]]) -> Generator[Item]:
    """The items of the generator that `make` returns, which runs in a thread and an event loop of its own.

    It goes one item ahead of the caller. Closing this one, also by an exception such as Ctrl-C's, cancels it and waits
    until it has cleaned up.
    """
    pump = _Pump(make)
    pump.start()
    try:
        while not isinstance(item := pump.next(), _End):
            yield item
    finally:
        pump.stop()
    if item.error is not None:
        raise item.error


class _Pump(Generic[Item]):
    def __init__(self, make: Callable[[], AsyncGenerator[Item, None]]) -> None:
        self._make = make
        self._items: SimpleQueue[Item | _End] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._taken = asyncio.Event()
        self._task = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._work, name="tis-ray client", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next(self) -> Item | _End:
        """The next item, once it is there; the generator may then go on to the one after it."""
        item = self._items.get()
        if not isinstance(item, _End):
            self._loop.call_soon_threadsafe(self._taken.set)
        return item

    def stop(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    async def _run(self) -> None:
        async with aclosing(self._make()) as items:
            async for item in items:
                self._taken.clear()
                self._items.put(item)
                await self._taken.wait()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as failure:  # the caller's to see, whatever it is
            error = failure
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            self._items.put(_End(error))
