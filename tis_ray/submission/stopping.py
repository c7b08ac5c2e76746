"""Signals that end a process, as batch systems send them before they kill, end a run as an error would: what is open is
closed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `SystemExit` with the exit code that shells know them by.

    In the main thread only; one that is ignored, as SIGHUP under `nohup`, stays so. Enter it anew once Ray is
    connected, which puts a handler of its own in place.
    """
    with _handled(_leave, [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]):
        yield


@contextmanager
def unbroken() -> Iterator[None]:
    """Signals that come within the block, Ctrl-C too, count once it has ended."""
    came: list[int] = []
    with _handled(lambda number, frame: came.append(number), [*_SIGNALS, signal.SIGINT]):  # noqa: ARG005
        yield
    if came:
        signal.raise_signal(came[0])


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], Any], numbers: list[signal.Signals]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)
