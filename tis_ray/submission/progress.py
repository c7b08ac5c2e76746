"""Progress of a batch run: a bar with speed, failures and the time left on a terminal, a plain line now and then
elsewhere."""

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress, TaskID

from tis_ray.results.progress import PLAIN_LINE_EVERY_S, bar
from tis_ray.submission.pipeline import ImageResult


@dataclass(slots=True)
class Counts:
    """Images of a run so far, told on a console as they come; `began` and `told` are moments of `time.monotonic`."""

    total: int
    console: Console
    rows: Progress
    task: TaskID
    began: float
    told: float
    done: int = 0
    failed: int = 0
    degraded: int = 0

    def add(self, images: int = 1, *, failed: int = 0, degraded: int = 0) -> None:
        """So many more images, of which so many failed or lack views."""
        self.done += images
        self.failed += failed
        self.degraded += degraded
        self.rows.update(self.task, completed=self.done, told=self.line())
        now = time.monotonic()
        if not self.console.is_terminal and now - self.told >= PLAIN_LINE_EVERY_S:
            left = timedelta(seconds=round((self.total - self.done) / max(self._speed(), 1e-9)))
            text = f"segmenting: {self.done}/{self.total}, {self.line()}, {left} left"
            self.console.print(text, markup=False, soft_wrap=True)
            self.told = now

    def line(self) -> str:
        """The speed, and what went wrong."""
        counts = {"failed": self.failed, "degraded": self.degraded}
        return ", ".join([f"{self._speed():.1f} images/s", *(f"{n} {name}" for name, n in counts.items() if n)])

    def _speed(self) -> float:
        return self.done / max(time.monotonic() - self.began, 1e-9)


@contextmanager
def counted(total: int, console: Console) -> Iterator[Counts]:
    """Counts of images, of which there will be `total`, shown on `console` meanwhile."""
    with bar(console) as rows:
        now = time.monotonic()
        yield Counts(total, console, rows, rows.add_task("segmenting", total=total), began=now, told=now)


def watched(results: Iterable[ImageResult], total: int, console: Console) -> Generator[ImageResult]:
    """The same results, shown on `console` as they pass."""
    with counted(total, console) as counts:
        for result in results:
            yield result
            counts.add(failed=result.found is None, degraded=bool(result.found and result.found.missing))
