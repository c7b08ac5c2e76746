"""Commands that make an ensemble better by what a batch run kept of its views: tune, ablate."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import PLACE, check_out, console, data_place, news, say
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from tis_ray.config import Ensemble, FusionSection
    from tis_ray.formats.dataset import GroundTruth
    from tis_ray.runs.folder import RunFolder
    from tis_ray.tuning.run import Tuned
    from tis_ray.tuning.search import Tried

RUN = typer.Argument(metavar="RUN_DIR", help="Folder of a batch run with kept views, `predict --keep-views`.")
TRUTH = typer.Option(metavar=PLACE, help="COCO JSON with annotations, or folder of WAD label images.")
IMAGES = typer.Option(help="Folder of a COCO JSON's files, where not beside it; pictures of WAD labels.")


def tune(
    run: Annotated[Path, RUN],
    ground_truth: Annotated[str, TRUTH],
    out: Annotated[Path, typer.Option(help="Ensemble file to write.")],
    image_folder: Annotated[Path | None, IMAGES] = None,
    ensemble: Annotated[
        Path | None,
        typer.Option(help="Ensemble file to begin with, whose comments stay; default: as the run has it."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What is to grow, as box.AP or mask.APs; default: mask.AP, or box.AP without masks."),
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="Parts to search, of ranges,boost,rules,masks,weights,calibration; default: all.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each of the searches, one for each fold.")] = 100,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the images; each is held out from one search.")] = 2,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples of the images for the gain's 95% interval; 0 for none.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds and of the searches.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the trials beside --out.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Page of what was found and what mattered; default: OUT with .html.")
    ] = None,
) -> None:
    """Search for the fusion of an ensemble that scores best on a validation set, without running a model.

    Settings are chosen by some images and judged by others. Trials are kept in `OUT.trials`; Ctrl-C ends the search
    with the best so far, and `--resume` goes on. Example:
    `tis-ray tune results.run --ground-truth instances_val.json --out tuned.yaml`
    """
    from tis_ray.runs.binding import digest
    from tis_ray.runs.folder import open_run
    from tis_ray.tuning.fusing import remarks
    from tis_ray.tuning.report import write_report
    from tis_ray.tuning.run import tune as run_trials
    from tis_ray.tuning.scoring import Bench, Metric
    from tis_ray.tuning.search import Searches, check_installed
    from tis_ray.tuning.space import PARTS, Space
    from tis_ray.tuning.writing import write_tuned

    check_installed()
    opened, page = open_run(run), report or out.with_suffix(".html")
    source, begin = _begin(opened, ensemble, out)
    for option, path in (("--out", out), ("--report", page)):
        _check_apart(option, path, run)
    wanted = None if metric is None else Metric.of(metric)
    dataset = _opened(ground_truth, image_folder)
    bench = Bench.of(opened, dataset, masks=wanted is None or wanted.kind == "segm")
    wanted = wanted or Metric.of("mask.AP" if bench.masked else "box.AP")
    space = Space.of(
        begin,
        bench.categories,
        sized=set(bench.sizes) >= set(begin.members),
        masked=wanted.kind == "segm",
        parts=PARTS if search is None else tuple(part.strip() for part in search.split(",")),
    )
    about = {
        "RUN_DIR": [digest(opened.about), len(bench.images)],
        "--ensemble": begin.fusion.model_dump(mode="json"),
        "--ground-truth": [dataset.path.name, len(dataset), *_content(dataset.path)],
        "--metric": wanted.name,
        "--search": list(space.parts),
        "--folds": folds,
        "--seed": seed,
    }
    searches = Searches(out.with_name(f"{out.name}.trials"), about, resume=resume)
    _tell_images(len(bench.images), len(dataset), len(opened.images))
    for line in remarks(begin) if wanted.kind == "segm" else ():
        news(line)
    with _shown(trials * folds) as on_trial:
        tuned = run_trials(
            bench, space, searches, metric=wanted, trials=trials, folds=folds, seed=seed, bootstrap=bootstrap,
            on_trial=on_trial,
        )  # fmt: skip
    lead = _lead(tuned, len(bench.images), folds)
    write_tuned(source, out, begin.fusion, tuned.ensemble.fusion, note=[lead])
    write_report(tuned, begin.fusion, page, lead=lead)
    _tell(tuned, begin.fusion)
    say(f"{lead}\nensemble: {out}\npage: {page}")
    if tuned.stopped:
        news(f"stopped early; --resume goes on with {searches.path}")
        raise typer.Exit(130)


def ablate(
    run: Annotated[Path, RUN],
    ground_truth: Annotated[str, TRUTH],
    image_folder: Annotated[Path | None, IMAGES] = None,
    ensemble: Annotated[
        Path | None, typer.Option(help="Ensemble file whose fusion is taken apart; default: as the run has it.")
    ] = None,
    boxes: Annotated[bool, typer.Option("--boxes", help="Score boxes alone, which is several times as fast.")] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the images for 95% intervals; 0 for none.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Score an ensemble without each member, scale, flip, crop, rule and boost in turn, without running a model.

    Example: `tis-ray ablate results.run --ground-truth instances_val.json`
    """
    import orjson

    from tis_ray import whole_files
    from tis_ray.results.progress import bar
    from tis_ray.runs.folder import open_run
    from tis_ray.tuning.ablation import ablate as take_apart
    from tis_ray.tuning.ablation import variants
    from tis_ray.tuning.fusing import changed, remarks
    from tis_ray.tuning.scoring import Bench
    from tis_ray.tuning.table import ablation_table

    check_out("--out", out)
    opened = open_run(run)
    begin = changed(opened, fusion=None if ensemble is None else str(ensemble))
    dataset = _opened(ground_truth, image_folder)
    bench = Bench.of(opened, dataset, masks=not boxes)
    _tell_images(len(bench.images), len(dataset), len(opened.images))
    for line in remarks(begin) if bench.masked else ():
        news(line)
    with bar(Console(stderr=True)) as rows:
        task = rows.add_task("scoring", total=len(variants(begin)))
        ablation = take_apart(bench, begin, kinds=bench.kinds, bootstrap=bootstrap, on_row=lambda: rows.advance(task))
    console().print(ablation_table(ablation))
    if out is not None:
        whole_files.write(out, orjson.dumps(ablation.to_json(), option=orjson.OPT_INDENT_2))
        say(f"figures: {out}")


def _opened(ground_truth: str, image_folder: Path | None) -> "GroundTruth":
    from tis_ray.formats.opening import open_path

    return open_path(data_place("--ground-truth", ground_truth), image_folder)


def _begin(run: "RunFolder", file: Path | None, out: Path) -> "tuple[Path, Ensemble]":
    """The ensemble file to begin with and what it says: the run's own, or one of the same views beside `out`."""
    from tis_ray.config import ENSEMBLE, load_ensemble
    from tis_ray.tuning.fusing import check_roles
    from tis_ray.tuning.writing import check_rewritable

    source = run.path if file is None else file
    source = source / ENSEMBLE if source.is_dir() else source
    ensemble, own = load_ensemble(source), run.ensemble
    if [view.name for view in ensemble.views] != [view.name for view in own.views]:
        raise ConfigError(f"--ensemble: expected the views of the run {run.path}; got others in {source}")
    check_roles(own, ensemble)
    if file is not None and out.resolve() == source.resolve():
        raise ConfigError(f"--out: expected another file than --ensemble; got {out}")
    if file is not None and out.resolve().parent != source.resolve().parent:
        raise ConfigError(f"--out: expected a file beside {source}, whose paths are relative to its folder; got {out}")
    check_rewritable(source, ensemble.fusion)
    return source, ensemble


def _content(path: Path) -> list[str]:
    """What a file of annotations holds, by digest; nothing of a folder of label images."""
    if not path.is_file():
        return []
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:12]]


def _check_apart(option: str, out: Path, run: Path) -> None:
    """Raise `ConfigError` for a file that is no YAML or page, or would lie in the run's folder."""
    suffixes = (".yaml", ".yml") if option == "--out" else (".html",)
    if out.suffix.lower() not in suffixes:
        raise ConfigError(f"{option}: expected a {suffixes[0]} file; got {out}")
    if out.resolve().is_relative_to(run.resolve()):
        raise ConfigError(f"{option}: expected a file outside of the run's folder; got {out}")
    check_out(option, out)


def _tell_images(joined: int, in_truth: int, in_run: int) -> None:
    if not joined == in_truth == in_run:
        news(
            f"{joined} images count: those of the run's {in_run} that are done and among the ground truth's {in_truth}"
        )


@contextmanager
def _shown(total: int) -> "Iterator[Callable[[Tried], None]]":
    """A bar with the best score so far, on stderr."""
    from tis_ray.results.progress import bar

    best = -1.0

    def on_trial(tried: "Tried") -> None:
        nonlocal best
        best = max(best, tried.score)
        rows.update(task, advance=1, told=f"best {100 * best:.1f}")

    with bar(Console(stderr=True)) as rows:
        task = rows.add_task("trials", total=total)
        yield on_trial


def _lead(tuned: "Tuned", num_images: int, folds: int) -> str:
    interval, trials = tuned.gain_interval, sum(len(fold.tried) for fold in tuned.folds)
    told = "" if interval is None else f" [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"
    line = (
        f"{tuned.metric.name} {100 * tuned.before:.2f} as it was, {100 * tuned.after:.2f} held out: "
        f"{100 * tuned.gain:+.2f}{told}; {num_images} images, {trials} trials, {folds} folds"
    )
    return line if tuned.gain > 0 else f"{line}; no gain, so that the ensemble stays as it was"


def _tell(tuned: "Tuned", before: "FusionSection") -> None:
    from tis_ray.evaluation.table import members_table
    from tis_ray.tuning.report import rows_of
    from tis_ray.tuning.writing import changes

    console().print(members_table(rows_of(tuned)))
    for key, was, now in changes(before, tuned.ensemble.fusion):
        say(f"{key}: {was} -> {now}")
