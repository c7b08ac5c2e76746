"""Progress of a long pass: a bar with speed on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Generator, Iterable
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

PLAIN_LINE_EVERY_S = 10.0
_SHOWN_EVERY = 100  # a bar that moves with each of a million results would take longer than they do

Item = TypeVar("Item")


class Progress(Protocol):
    """Passes `items` on and tells about it: what is done with them, how many there are, if known, and what they are."""

    def __call__(self, items: Iterable[Item], doing: str, total: int | None, unit: str) -> Generator[Item]: ...


def silent(items: Iterable[Item], doing: str, total: int | None, unit: str) -> Generator[Item]:  # noqa: ARG001
    """Tell nothing."""
    yield from items


def shown_on(console: Console) -> Progress:
    """Progress told on `console`."""

    def shown(items: Iterable[Item], doing: str, total: int | None, unit: str) -> Generator[Item]:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
        started = told = time.monotonic()
        described = TextColumn("{task.description}", markup=False)
        with Bar(described, *columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(doing, total=total, speed="")
            done = 0
            for item in items:
                yield item
                done += 1
                if total is None and done % _SHOWN_EVERY:
                    continue
                now = time.monotonic()
                speed = f"{done / (now - started):.1f} {unit}/s"
                bar.update(task, completed=done, speed=speed)
                if not console.is_terminal and now - told >= PLAIN_LINE_EVERY_S:
                    of = "" if total is None else f"/{total}"
                    console.print(f"{doing}: {done}{of}, {speed}", markup=False, soft_wrap=True)
                    told = now

    return shown
