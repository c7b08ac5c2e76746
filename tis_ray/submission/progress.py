"""Progress of a batch run: a bar with speed and failures on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Generator, Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tis_ray.submission.pipeline import ImageResult

PLAIN_LINE_EVERY_S = 10.0


def watched(results: Iterable[ImageResult], total: int, console: Console) -> Generator[ImageResult, None, None]:
    """The same results, shown on `console` as they pass."""
    started = told = time.monotonic()
    done = failed = 0
    bar = Progress(
        TextColumn("segmenting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("segmenting", total=total, speed="")
        for result in results:
            done += 1
            failed += result.found is None
            now = time.monotonic()
            speed = f"{done / (now - started):.2f} images/s" + (f", {failed} failed" if failed else "")
            bar.update(task, completed=done, speed=speed)
            if not console.is_terminal and (now - told >= PLAIN_LINE_EVERY_S or done == total):
                console.print(f"segmented {done}/{total}, {speed}")
                told = now
            yield result
