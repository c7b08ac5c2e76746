"""Progress of a long pass: a bar with speed on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_LINE_EVERY_S = 10.0
_SHOWN_EVERY = 100  # a bar that moves with each of a million results would take longer than they do

Item = TypeVar("Item")


class Progress(Protocol):
    """Passes `items` on and tells about it: what is done with them, how many there are, if known, and what they are."""

    def __call__(self, items: Iterable[Item], doing: str, total: int | None, unit: str) -> Generator[Item]: ...


def silent(items: Iterable[Item], doing: str, total: int | None, unit: str) -> Generator[Item]:  # noqa: ARG001
    """Tell nothing."""
    yield from items


def bar(console: Console) -> Bar:
    """Rows with a bar for each task, of which a field `told` is shown; nothing where `console` is no terminal."""
    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Told(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )


class _Told(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("told", ""))


def shown_on(console: Console, *, note: Callable[[], str] = str) -> Progress:
    """Progress told on `console`, with what `note` says then behind the speed."""

    def shown(items: Iterable[Item], doing: str, total: int | None, unit: str) -> Generator[Item]:
        started = told = time.monotonic()
        with bar(console) as rows:
            task = rows.add_task(doing, total=total)
            done = 0
            for item in items:
                yield item
                done += 1
                if total is None and done % _SHOWN_EVERY:
                    continue
                now = time.monotonic()
                speed = f"{done / max(now - started, 1e-9):.1f} {unit}/s{note()}"
                rows.update(task, completed=done, told=speed)
                if not console.is_terminal and now - told >= PLAIN_LINE_EVERY_S:
                    of = "" if total is None else f"/{total}"
                    console.print(f"{doing}: {done}{of}, {speed}", markup=False, soft_wrap=True)
                    told = now

    return shown
