"""Progress of several runs at once: what a worker tells, where it is kept, and how a person sees it.

A `Board` lives in one process (the trainer makes a Ray actor of it); workers write to it, the driver reads it and
hands the news to a display: one bar per run on a terminal, plain lines elsewhere.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import TaskID

from tis_ray.results.progress import bar

PLAIN_LINE_EVERY_S = 10.0
SHOWN_WAIT = 0.05  # share of a step's time; less is not worth a person's attention


@dataclass(frozen=True, slots=True)
class RunProgress:
    """State of one run. `step` of `total_steps` and `epoch` of `epochs` are finished ones.

    `loss` and `images_per_s` are running means over the last steps, all workers together for the latter;
    `data_wait` is the share of their time, 0..1, in which no batch was ready; `box_ap` and `mask_ap` are the last
    validation's, in 0..1. None means not known yet. `note` is a line to be shown once.
    """

    recipe: str
    state: str = "waiting for workers"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    images_per_s: float | None = None
    data_wait: float | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if not self.total_steps:
            return f"{self.recipe}: {self.state}"
        figures = [f"epoch {self.epoch}/{self.epochs}, step {self.step}/{self.total_steps}", self.numbers()]
        return f"{self.recipe}: {self.state}, {', '.join(filter(None, figures))}"

    def numbers(self) -> str:
        """Loss, speed and AP as far as they are known."""
        parts = [
            None if self.loss is None else f"loss {self.loss:.3f}",
            None if self.images_per_s is None else f"{self.images_per_s:.1f} images/s",
            None if (self.data_wait or 0) < SHOWN_WAIT else f"{self.data_wait:.0%} waiting for data",
            None if self.box_ap is None else f"box AP {100 * self.box_ap:.1f}",
            None if self.mask_ap is None else f"mask AP {100 * self.mask_ap:.1f}",
        ]
        return ", ".join(part for part in parts if part)


class Board:
    """The last word of every run, where its workers are, and the notes of all in the order in which they came."""

    def __init__(self) -> None:
        self._runs: dict[str, RunProgress] = {}
        self._places: dict[str, dict[int, str]] = {}
        self._notes: list[str] = []

    def update(self, progress: RunProgress) -> None:
        """Replace what is known of a run."""
        name = progress.recipe
        before = self._runs.get(name)
        self._runs[name] = progress
        if progress.note and (before is None or before.note != progress.note):
            self._notes.append(f"{name}: {progress.note}")

    def change(self, name: str, **fields: object) -> None:
        """Replace fields of what is known of a run."""
        self.update(replace(self._runs.get(name, RunProgress(name)), **fields))  # type: ignore[arg-type]

    def read(self, seen: int = 0) -> tuple[dict[str, RunProgress], list[str]]:
        """Every run that has reported, by recipe name, and the notes but the first `seen` ones."""
        return dict(self._runs), self._notes[seen:]

    def place(self, name: str, rank: int, place: str) -> None:
        """Note where a worker of a run is."""
        self._places.setdefault(name, {})[rank] = place

    def places(self, name: str) -> dict[int, str]:
        """Where the workers of a run are, by rank."""
        return dict(self._places.get(name, {}))


class Meter:
    """Running means of loss and speed in a worker; `seen` gives the run's progress after a step."""

    def __init__(self, progress: RunProgress, *, decay: float = 0.9) -> None:
        self.progress, self._decay, self._seconds, self._images, self._waited = progress, decay, 0.0, 0.0, 0.0

    def seen(self, *, step: int, loss: float, images: int, seconds: float, data_wait_s: float = 0.0) -> RunProgress:
        """Account for one step of `images` (all workers) in `seconds`, `data_wait_s` of them without a batch."""
        old = self.progress.loss
        self._waited = self._decay * self._waited + data_wait_s
        self._images = self._decay * self._images + images
        self._seconds = self._decay * self._seconds + seconds
        self.progress = replace(
            self.progress,
            state="training",
            step=step,
            loss=loss if old is None else self._decay * old + (1 - self._decay) * loss,
            images_per_s=self._images / max(self._seconds, 1e-9),
            data_wait=self._waited / max(self._seconds, 1e-9),
        )
        return self.progress

    def change(self, **fields: object) -> RunProgress:
        """The progress with other fields, e.g. `state` or `box_ap`."""
        self.progress = replace(self.progress, **fields)  # type: ignore[arg-type]
        return self.progress


class Display(Protocol):
    """Shows the state of all runs; used as a context manager around the time they run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, runs: Mapping[str, RunProgress]) -> None:
        """Take in the newest state; called about twice a second."""

    def line(self, text: str) -> None:
        """Show one line of news that stays."""


def display_for(console: Console | None, names: list[str]) -> Display:
    """Bars where `console` is a terminal, plain lines where it is something else, nothing where there is none."""
    if console is None:
        return PlainLines(Console(quiet=True))
    return Bars(console, names) if console.is_terminal else PlainLines(console)


class Bars:
    """One row per run: bar, steps, loss, images/s and time left."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._bars = bar(console)
        self._rows: dict[str, TaskID] = {name: self._bars.add_task(name, total=None, start=False) for name in names}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, runs: Mapping[str, RunProgress]) -> None:
        """Move the bars."""
        for name, run in runs.items():
            if run.total_steps:
                self._bars.start_task(self._rows[name])  # waiting for workers says nothing about the time left
            shown = run.numbers() if run.state == "training" else ", ".join(filter(None, [run.state, run.numbers()]))
            self._bars.update(self._rows[name], completed=run.step, total=run.total_steps or None, told=shown)

    def line(self, text: str) -> None:
        """Print above the bars."""
        self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)


class PlainLines:
    """A line for each run about every ten seconds, and at once when its state changes."""

    def __init__(self, console: Console, *, every_s: float = PLAIN_LINE_EVERY_S) -> None:
        self._console, self._every_s = console, every_s
        self._shown: dict[str, tuple[float, RunProgress]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, runs: Mapping[str, RunProgress]) -> None:
        """Print the runs whose line is due."""
        now = time.monotonic()
        for name, run in runs.items():
            when, before = self._shown.get(name, (-self._every_s, None))
            changed = before is None or before.state != run.state
            if run != before and (changed or now - when >= self._every_s):
                self._shown[name] = now, run
                self.line(str(run))

    def line(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
