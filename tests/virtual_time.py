"""An event loop whose clock jumps to whatever comes next: minutes of waiting pass at once, and always the same way."""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import pytest


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting, moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = time.monotonic()

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing is to come"
        ready = super().select(0)
        if not ready:
            self.now_s += timeout
        return ready


class Inline:
    """In the place of a pool of threads: does the work at once."""

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done


def run_in_virtual_time(story: Coroutine[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `story` comes to, while `time.monotonic` is the loop's clock and `asyncio.to_thread` takes no time.

    Nothing in it may wait for another thread.
    """
    selector = _Jumping()

    async def at_once(work: Any, *arguments: Any, **keywords: Any) -> Any:
        return work(*arguments, **keywords)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    monkeypatch.setattr(time, "monotonic", lambda: selector.now_s)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(story)
