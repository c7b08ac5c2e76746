"""Progress of a batch run: a bar with speed and failures on a terminal, a plain line now and then elsewhere."""

from collections.abc import Generator, Iterable

from rich.console import Console

from tis_ray.results.progress import shown_on
from tis_ray.submission.pipeline import ImageResult


def watched(results: Iterable[ImageResult], total: int, console: Console) -> Generator[ImageResult]:
    """The same results, shown on `console` as they pass."""
    failed = 0

    def counted() -> Generator[ImageResult]:
        nonlocal failed
        for result in results:
            failed += result.found is None
            yield result

    progress = shown_on(console, note=lambda: f", {failed} failed" if failed else "")
    yield from progress(counted(), "segmenting", total, "images")
