"""`tis-ray predict`: a batch run through the deployments of an ensemble, started for the run where none are up."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.categories import class_map
from tis_ray.formats.image_list import ListedImage, read_image_list
from tis_ray.formats.members import ensemble_categories
from tis_ray.instances import Categories
from tis_ray.serving.local import free_port, serve_locally
from tis_ray.serving.running import connect, fusion_handle
from tis_ray.submission import view_files
from tis_ray.submission.identity import describe
from tis_ray.submission.journal import Journal, journal_path
from tis_ray.submission.pipeline import ImageResult, segment_images
from tis_ray.submission.progress import watched
from tis_ray.submission.service import ServiceSegmenter
from tis_ray.submission.writing import ResultsFile, Summary, rehearse, results_files, write_results, write_whole


def predict(
    ensemble: Ensemble,
    images: Path,
    out: Path,
    *,
    console: Console,
    address: str | None = None,
    image_folder: Path | None = None,
    in_flight: int = 8,
    formats: Sequence[str] = ("coco",),
    disjoint: bool = False,
    resume: bool = False,
    allow_degraded: bool = False,
    views: Path | None = None,
) -> Summary:
    """Segment `images` (folder, .txt or COCO JSON) and write the results to `out`.

    address: Ray cluster on which a service of this ensemble runs; None starts one here for the time of the run
    formats: of the menu `submission/formats`; the first is `out`'s, the others are written beside it
    resume:  go on with a run that was killed or in which images failed; a run that has not begun begins
    allow_degraded: take answers that lack views, too, as far as the ensemble's quorum lets them be given
    views: folder for what each view found by itself, to be fused anew by `tis-ray fuse` (see `view_files`)

    Image ids are the JSON's own; a folder's and a list's, from 1, are noted in `<out>.images.json`. Category ids are
    the JSON's too, joined by name; instances of classes that it lacks are left out. What is found is kept in
    `<out>.partial` until every image is in the results, so that nothing is asked for twice.
    """
    files = results_files(out, formats, disjoint=disjoint)
    if allow_degraded and not ensemble.quorum.met(len(ensemble.views) - 1, len(ensemble.views)):
        raise ConfigError(
            f"--allow-degraded: expected a quorum.views below 1 beside it, as --set quorum.views=0.8; got "
            f"{ensemble.quorum.views:g}, with which an ensemble of {len(ensemble.views)} views gives no such answers"
        )
    _check_writable(out, images, files)
    listed = read_image_list(images, image_folder)
    categories = ensemble_categories(ensemble)
    written = _table(images, image_folder) or categories
    class_map(categories, written)
    rehearse(files, listed, written)
    if views is not None:
        view_files.make_folder(views)
    if resume and not journal_path(out).exists():
        console.print(f"no unfinished run of {out} is here to go on with; a new one begins", soft_wrap=True)
    with (
        Journal.opened(
            journal_path(out),
            describe(ensemble, listed, with_views=views is not None),
            views=ensemble.views,
            resume=resume,
        ) as journal,
        _kept(journal, console),
    ):
        if images.suffix.lower() != ".json":
            _note_ids(listed, out)
        failed = _look(
            ensemble,
            listed,
            journal,
            console=console,
            address=address,
            in_flight=in_flight,
            degraded=allow_degraded,
            keep_views=views is not None,
        )
        results = (failed.get(image.id) or journal.read(image) for image in listed)
        with view_files.opened(views, ensemble, categories=categories, written=written) as write_views:
            summary = write_results(
                _also(write_views, results), out, categories=categories, written=written, files=files
            )
        if not summary.failed:
            _settle(files)
            journal.remove()
    _tell(summary, console)
    return summary


def _look(
    ensemble: Ensemble,
    listed: Sequence[ListedImage],
    journal: Journal,
    *,
    console: Console,
    address: str | None,
    in_flight: int,
    degraded: bool,
    keep_views: bool,
) -> dict[int, ImageResult]:
    """Put what is found in the images that are not done into the journal; those that failed, by id."""
    changed = journal.changed(listed)
    done = journal.done(degraded=degraded) - changed
    if changed:
        console.print(f"{len(changed)} images have changed since they were looked at and are looked at again")
    todo = [image for image in listed if image.id not in done]
    if done:
        console.print(f"{len(listed) - len(todo)} of {len(listed)} images are done already")
    if not todo:
        return {}
    deadline_s = ensemble.limits.max_deadline_s
    with (
        _deployed(ensemble, address, console) as handle,
        closing(
            ServiceSegmenter(
                handle, ensemble.views, deadline_s=deadline_s, keep_views=keep_views, allow_degraded=degraded
            )
        ) as segmenter,
        closing(segment_images(segmenter, todo, in_flight=in_flight, has_worked=bool(done))) as results,
        closing(watched(results, len(todo), console)) as shown,
    ):
        failed: dict[int, ImageResult] = {}
        for result in shown:
            if result.found is None:
                failed[result.image.id] = result
            else:
                journal.append(result)
        return failed


def _also(write: Callable[[ImageResult], None], results: Iterable[ImageResult]) -> Iterator[ImageResult]:
    for result in results:
        write(result)
        yield result


@contextmanager
def _kept(journal: Journal, console: Console) -> Iterator[None]:
    """Say where the work is when it is broken off."""
    try:
        yield
    except BaseException:
        if journal.done(degraded=True):
            console.print(f"what was found so far is in {journal.path}; --resume goes on with it", soft_wrap=True)
        raise


def _settle(files: Sequence[ResultsFile]) -> None:
    """Wait until the results are on the disk: only then may the journal go."""
    for file in files:
        with file.path.open("rb") as stream:
            os.fsync(stream.fileno())


def _tell(summary: Summary, console: Console) -> None:
    if summary.num_dropped:
        console.print(
            f"left out {summary.num_dropped} instances: their classes are not in the file's table, or masks are empty"
        )
    if summary.degraded:
        names = ", ".join(image.file_name for image in summary.degraded[:5])
        console.print(f"{len(summary.degraded)} images were answered without some views: {names}")


@contextmanager
def _deployed(ensemble: Ensemble, address: str | None, console: Console) -> Iterator[Any]:
    import ray

    if address is None:
        with serve_locally(ensemble, port=free_port(), on_progress=console.print):
            yield fusion_handle()
        return
    try:
        yield connect(address, ensemble)
    finally:
        ray.shutdown()


def _table(images: Path, image_folder: Path | None) -> Categories | None:
    """The classes of a COCO JSON, where there are any."""
    if images.suffix.lower() != ".json":
        return None
    return coco.read(images, image_folder, annotated=False).categories or None


def _check_writable(out: Path, images: Path, files: Sequence[ResultsFile]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: expected a file in a folder that can be made; got {out} ({error.strerror})"
        ) from None
    paths = [file.path for file in files]
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"--out: expected a file; {path} is a folder")
    for path in (*paths, journal_path(out), out.with_suffix(".failed.json"), out.with_suffix(".images.json")):
        if path.resolve() == images.resolve():
            raise ConfigError(f"--out: expected another file than --images, which {path} would overwrite; got {out}")


def _note_ids(listed: list[ListedImage], out: Path) -> None:
    """Which id stands for which file, in COCO's form."""
    entries = [{"id": image.id, "file_name": image.file_name} for image in listed]
    write_whole(out.with_suffix(".images.json"), {"images": entries})
