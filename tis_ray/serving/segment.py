"""`tis-ray segment`: ask a running service about images, few or very many; print, draw and keep what it found."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tis_ray.errors import ConfigError, DataError, InputError, ServiceError
from tis_ray.results.progress import Progress, silent
from tis_ray.serving.answer_files import AnswerLines, lines_path
from tis_ray.serving.answers import Result
from tis_ray.serving.async_client import Outcome
from tis_ray.serving.client import Client
from tis_ray.serving.drawings import Drawings
from tis_ray.serving.picked import Picked, PickedImage

TABLES = 8  # for more images than that no tables are printed
RETRIES = 10  # about a minute of pauses: a service that is replaced meanwhile costs no image
GIVE_UP_AFTER = 8  # images in a row that the service failed on
_OF_THE_IMAGE = (400, 408, 413, 415)  # statuses that say nothing of the next image


@dataclass(frozen=True, slots=True)
class Kept:
    """Where answers go, in which of `answer_files.FORMATS`; `resume` leaves out the images that have one there."""

    out: Path
    format: str
    resume: bool = False

    @property
    def lines(self) -> Path:
        """Where they go line by line, as they come."""
        return lines_path(self.out, self.format)


@dataclass(slots=True)
class Summary:
    """What became of the images of a run.

    num_before:   those that had an answer from a run before
    num_degraded: those that were answered without some views
    failed:       path and reason of those that were not answered
    """

    num_answered: int = 0
    num_before: int = 0
    num_degraded: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def segment_files(
    picked: Picked,
    *,
    url: str,
    token: str | None,
    kept: Kept | None,
    overlay: Path | None,
    score_threshold: float,
    console: Console,
    together: int = 4,
    progress: Progress = silent,
) -> Summary:
    """Segment every image, `together` of them at once; `overlay` is a picture for one image, a folder for several.

    An image that fails ends nothing. Memory follows `together` and the answers' size, not the number of images. Raises
    `ServiceError` before anything is asked where there is no such service, and where it fails on `GIVE_UP_AFTER` images
    in a row; what was answered until then, or until Ctrl-C, is kept.
    """
    drawings = None if overlay is None else Drawings.to(overlay, picked)
    _check_out(kept, picked)
    names = [image.path for image in picked.images]
    with Client(url, token=token, retries=RETRIES, max_in_flight=together) as client:
        about = {"score_threshold": score_threshold, "model_version": client.ensemble().get("model_version")}
        with _opened(kept, names, about, console) as lines:
            before = lines.names if lines else frozenset()
            todo = [image for image in picked.images if image.path not in before]
            run = _Run(lines, drawings, score_threshold, console if len(names) <= TABLES else None)
            run.summary.num_before = len(names) - len(todo)
            began = time.monotonic()
            # Tables and a bar would write over each other.
            told = silent if run.console else progress
            with closing(_asked(client, todo, score_threshold, told)) as asked:
                for image, outcome in asked:
                    run.take(image, outcome)
            run.summary.seconds = time.monotonic() - began
            if kept is not None and lines is not None and lines.names:
                lines.write(kept.out, kept.format, names, client.categories())
                if not run.summary.failed and kept.out != lines.path:
                    lines.remove()
    return run.summary


@dataclass(frozen=True, slots=True)
class _Run:
    """What is done with each outcome; `console` shows it, where there is one."""

    lines: AnswerLines | None
    drawings: Drawings | None
    score_threshold: float
    console: Console | None
    summary: Summary = field(default_factory=Summary)

    def take(self, image: PickedImage, outcome: Outcome) -> None:
        if outcome.result is None:
            self.summary.failed.append((image.path, str(outcome.error)))
            return
        self.summary.num_answered += 1
        self.summary.num_degraded += outcome.result.degraded
        if self.lines is not None:
            self.lines.append(image.path, outcome.result)
        if self.console is not None:
            self.console.print(_table(image.path, outcome.result))
        if self.drawings is not None:
            self._draw(self.drawings, image, outcome.result)

    def _draw(self, drawings: Drawings, image: PickedImage, result: Result) -> None:
        try:
            drawn = drawings.draw(image, result, score_threshold=self.score_threshold)
        except (DataError, InputError) as error:  # the file has changed since it was sent
            self.summary.failed.append((image.path, f"answered, but not drawn: {error}"))
            return
        if self.console is not None:
            self.console.print(f"overlay: {drawn}", markup=False, soft_wrap=True)


def _asked(
    client: Client, images: Sequence[PickedImage], score_threshold: float, progress: Progress
) -> Generator[tuple[PickedImage, Outcome]]:
    """Images with their outcomes, as they come. Raises `ServiceError` where the service fails again and again."""
    failed_in_a_row = 0
    outcomes = client.segment_many((image.path for image in images), score_threshold=score_threshold)
    with closing(outcomes), closing(progress(outcomes, "segmenting", len(images), "images")) as shown:
        for outcome in shown:
            image = images[outcome.position]
            yield image, outcome
            failed_in_a_row = failed_in_a_row + 1 if _is_of_the_service(outcome) else 0
            if failed_in_a_row == GIVE_UP_AFTER:
                raise ServiceError(
                    f"gave up after {GIVE_UP_AFTER} images in a row, {image.path} the last: {outcome.error}"
                )


def _is_of_the_service(outcome: Outcome) -> bool:
    """Whether the next image may expect the same failure."""
    return isinstance(outcome.error, ServiceError) and outcome.error.status not in _OF_THE_IMAGE


@contextmanager
def _opened(
    kept: Kept | None, names: Sequence[str], about: Mapping[str, Any], console: Console
) -> Iterator[AnswerLines | None]:
    if kept is None:
        yield None
        return
    if kept.resume and not kept.lines.exists():
        console.print(f"no unfinished run of {kept.out} is here to go on with; a new one begins", soft_wrap=True)
    with AnswerLines.opened(kept.lines, about=about, resume=kept.resume) as lines:
        strangers = sorted(lines.names.difference(names)) if kept.lines != kept.out else []
        if strangers:
            raise ConfigError(
                f"images: expected all of the unfinished run in {kept.lines} among them; {strangers[0]} is not, nor "
                f"are {len(strangers) - 1} others (take another --out, or --format jsonl)"
            )
        try:
            yield lines
        except BaseException:
            if lines.names:
                console.print(
                    f"the answers of {len(lines.names)} images are in {kept.lines}; --resume goes on with them",
                    markup=False,
                    soft_wrap=True,
                )
            raise


def _check_out(kept: Kept | None, picked: Picked) -> None:
    if kept is not None and any(Path(image.path).absolute() == kept.out.absolute() for image in picked.images):
        raise ConfigError(f"--out: expected another file than the images; {kept.out} would be lost")


def _table(path: str, result: Result) -> Table:
    views = f"{sum(view.status == 'ok' for view in result.views)}/{len(result.views)} views"
    seconds = f"{result.timings.get('total_s', 0.0):.2f} s"
    table = Table(title=f"{escape(path)}: {len(result.instances)} instances, {views}, {seconds}")
    for name in ("category", "score", "x", "y", "width", "height"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for found in result.instances:
        table.add_row(escape(found.category), f"{found.score:.2f}", *(f"{value:.1f}" for value in found.bbox))
    return table
