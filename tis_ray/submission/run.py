"""`tis-ray predict`: a batch run in its folder, through the deployments of an ensemble or in this process alone."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tis_ray.config import Ensemble
from tis_ray.config.data_path import is_remote
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.categories import class_map
from tis_ray.formats.image_list import ListedImage, read_image_list
from tis_ray.formats.json_file import write_json
from tis_ray.formats.members import ensemble_categories
from tis_ray.instances import Categories
from tis_ray.runs.binding import locked
from tis_ray.runs.folder import RunFolder, check_own, holds_run, open_run
from tis_ray.runs.records import Status
from tis_ray.submission import view_files
from tis_ray.submission.beginning import begun, run_path, to_do
from tis_ray.submission.identity import describe
from tis_ray.submission.looking import IN_FLIGHT, Readers, is_alone, look, look_alone, put_back
from tis_ray.submission.replica_counts import read_replicas
from tis_ray.submission.stopping import terminable
from tis_ray.submission.writing import ResultsFile, Summary, rehearse, results_files, write_results


def predict(
    ensemble: Ensemble,
    images: Path,
    out: Path,
    *,
    console: Console,
    run: Path | None = None,
    address: str | None = None,
    in_process: bool | None = None,
    replicas: Sequence[str] = (),
    readers: Readers | None = None,
    image_folder: Path | None = None,
    in_flight: int | None = None,
    images_per_shard: int | None = None,
    formats: Sequence[str] = ("coco",),
    disjoint: bool = False,
    resume: bool = False,
    retry: Collection[Status] = (),
    fresh: bool = False,
    allow_degraded: bool = False,
    keep_views: bool = False,
    views: Path | None = None,
    bad: BadEntries | None = None,
) -> Summary:
    """Segment `images` (see `read_image_list`) and write the results to `out`.

    run:        folder of the run (see `runs.folder`), by default `results.run` beside `results.json`; it stays
    address:    Ray cluster on which a service of this ensemble runs; None starts one here for the time of the run
    in_process: without Ray; by default where neither `address` nor `replicas` are given and images are few
    replicas:   `N` or `NAME=N`: so many of the view servers while the run lasts (see `read_replicas`)
    readers:    who opens images and writes shards: this process, or actors on every node of the cluster, which have to
                see the same storage; by default the cluster where `address` and `replicas` are given
    in_flight:  images opened or waiting at any time; by default 8, or what keeps `replicas` busy
    formats:    of the menu `submission/formats`; the first is `out`'s, the others are written beside it
    resume:     go on with the run that is there; one that has not begun begins
    retry:      go on, and look again at images with these statuses
    fresh:      delete the run that is there and begin anew
    allow_degraded: take answers that lack views, too, as far as the ensemble's quorum lets them be given
    keep_views: keep what each view found by itself, to be fused anew by `tis-ray fuse RUN`
    views:      folder for the same as results files (see `view_files`); implies `keep_views`
    bad:        counts images that are listed twice or missing, and says whether they are left out or refused; a run
                that goes on refuses none that went missing

    Image ids are the JSON's own; a folder's and a list's, from 1, are noted in `<out>.images.json`. Category ids are
    the JSON's too, joined by name; instances of classes that it lacks are left out. Raises `ConfigError` for what does
    not fit together, before anything starts, and `ServiceError` where the service is gone.
    """
    files, folder = results_files(out, formats, disjoint=disjoint), run or run_path(out)
    if fresh and (resume or retry):
        raise ConfigError("--fresh: expected no --resume or --retry beside it, which keep what is there; got both")
    _check_degraded(ensemble, allow_degraded=allow_degraded)
    _check_writable(out, images, files, folder)
    wanted = read_replicas(replicas, ensemble)
    bad, going_on = bad or BadEntries(), resume or bool(retry)
    listed = read_image_list(
        images,
        image_folder,
        bad=bad,
        present=bad.skip or not going_on,
        excused=_names_in(folder) if going_on else (),
    )
    alone = is_alone(len(listed), address=address, wanted=wanted, readers=readers, asked=in_process)
    categories = ensemble_categories(ensemble)
    written = _table(images, image_folder) or categories
    class_map(categories, written)
    rehearse(files, listed, written)
    if views is not None:
        view_files.make_folder(views)
    with terminable(), locked(folder):
        ledger = begun(
            folder,
            describe(ensemble, listed),
            ensemble=ensemble,
            categories=categories,
            images=listed,
            images_per_shard=images_per_shard,
            keep_views=keep_views or views is not None,
            resume=going_on,
            fresh=fresh,
            say=lambda line: console.print(line, soft_wrap=True),
        )
        with _kept(ledger, console):
            todo = to_do(ledger, retry=retry, say=lambda line: console.print(line, soft_wrap=True))
            if not (todo.numbers and address and wanted):
                put_back(folder, console)
            if todo.numbers and alone:
                look_alone(ensemble, ledger, todo, console=console, in_flight=in_flight or IN_FLIGHT)
            elif todo.numbers:
                look(
                    ensemble,
                    ledger,
                    todo,
                    console=console,
                    address=address,
                    wanted=wanted,
                    stream=readers == "cluster" or (readers is None and address is not None and bool(wanted)),
                    in_flight=in_flight,
                    allow_degraded=allow_degraded,
                )
            if images.suffix.lower() != ".json":
                _note_ids(listed, out)
            summary = write_results(ledger.outcomes(), out, categories=categories, written=written, files=files)
            if views is not None:
                _write_views(views, ledger, written)
    _tell(summary, console)
    return summary


def _names_in(folder: Path) -> Collection[str]:
    """The names of the images of the run that is there, if any: it goes on without those that went missing."""
    return {image.file_name for image in open_run(folder).images} if holds_run(folder) else ()


@contextmanager
def _kept(run: RunFolder, console: Console) -> Iterator[None]:
    """Say where the work is when it is broken off."""
    try:
        yield
    except BaseException:
        if done := run.num_done:
            console.print(
                f"{done} of {len(run.images)} images are kept in {run.path}; the same command with --resume goes on",
                soft_wrap=True,
            )
        raise


def _write_views(folder: Path, run: RunFolder, written: Categories) -> None:
    with view_files.opened(folder, run.ensemble, categories=run.categories, written=written) as write:
        for _, views in run.outcomes_with_views():
            write(views)


def _tell(summary: Summary, console: Console) -> None:
    if summary.num_dropped:
        console.print(
            f"left out {summary.num_dropped} instances: the format or its table of classes has no place for them"
        )
    if summary.degraded:
        names = ", ".join(image.file_name for image in summary.degraded[:5])
        console.print(f"{len(summary.degraded)} images were answered without some views: {names}")


def _table(images: Path, image_folder: Path | None) -> Categories | None:
    """The classes of a COCO JSON, where there are any."""
    if images.suffix.lower() != ".json":
        return None
    return coco.read(images, image_folder, annotated=False).categories or None


def _check_degraded(ensemble: Ensemble, *, allow_degraded: bool) -> None:
    if allow_degraded and not ensemble.quorum.met(len(ensemble.views) - 1, len(ensemble.views)):
        raise ConfigError(
            f"--allow-degraded: expected a quorum.views below 1 beside it, as --set quorum.views=0.8; got "
            f"{ensemble.quorum.views:g}, with which an ensemble of {len(ensemble.views)} views gives no such answers"
        )


def _check_writable(out: Path, images: Path, files: Sequence[ResultsFile], run: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: expected a file in a folder that can be made; got {out} ({error.strerror})"
        ) from None
    paths = [file.path for file in files]
    for path in paths:
        if path.resolve().is_relative_to(run.resolve()):
            raise ConfigError(f"--out: expected a file outside of the run's folder {run}; got {path}")
        if path.is_dir():
            raise ConfigError(f"--out: expected a file; {path} is a folder")
    for path in (*paths, out.with_suffix(".failed.json"), out.with_suffix(".images.json")):
        if not is_remote(images) and path.resolve() == images.resolve():
            raise ConfigError(f"--out: expected another file than --images, which {path} would overwrite; got {out}")
    check_own(run)


def _note_ids(listed: Sequence[ListedImage], out: Path) -> None:
    """Which id stands for which file, in COCO's form."""
    entries = [{"id": image.id, "file_name": image.file_name} for image in listed]
    write_json(out.with_suffix(".images.json"), {"images": entries}, indented=True)
