"""The command that fuses without a model: results files, or the kept views of a batch run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import Overrides, SkipBad, check_out, news, say, tell_bad
from tis_ray.errors import ConfigError


def fuse(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of a batch run with kept views; or COCO results files, of boxes, RLE or polygon masks; or one "
            "YAML listing them."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Results file to write.")],
    data: Annotated[
        Path | None,
        typer.Option(help="COCO JSON of the images and categories, needed for files; annotations are not needed."),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(help="Preset, tis, lvis or megdet; for a run also a YAML whose fusion section is taken."),
    ] = None,
    format: Annotated[
        list[str], typer.Option(help="Format of a run's results; a second one is written beside --out.")
    ] = ["coco"],  # noqa: B006
    skip_bad: SkipBad = False,
    overrides: Overrides = None,
) -> None:
    """Fuse anew, without a model: what a batch run kept of its views, or results files of any framework.

    A run is fused as it was, but for what `--fusion` and `--set fusion.KEY=VALUE` say. Of files, a YAML has the
    `results` by name, each with its `file` and, where wanted, `member`, `scale`, `flip`, `weight`, `role` and `range`,
    and a `fusion` section like an ensemble's. Example:
    `tis-ray fuse results.run --fusion tis --out fused.json`, or of files
    `tis-ray fuse resnet.json shufflenet.json --data instances_val.json --out fused.json --fusion tis`
    """
    if any(path.is_dir() for path in files):
        if len(files) > 1:
            raise ConfigError(f"FILES: expected one folder of a run, or results files alone; got {len(files)} paths")
        _fuse_run(files[0], out, data=data, fusion=fusion, formats=format, overrides=overrides or ())
        return
    if data is None:
        raise ConfigError("--data: expected a COCO JSON of the images and categories that the files are of; got none")
    if list(format) != ["coco"]:
        raise ConfigError(f"--format: expected coco, in which files are fused; got {', '.join(format)}")
    _fuse_files(files, data, out, fusion=fusion, overrides=overrides or (), skip_bad=skip_bad)


def _fuse_files(
    files: Sequence[Path], data: Path, out: Path, *, fusion: str | None, overrides: Sequence[str], skip_bad: bool
) -> None:
    from tis_ray.formats.bad_entries import BadEntries
    from tis_ray.results import fuse_files, open_files
    from tis_ray.results.progress import shown_on

    preset = [] if fusion is None else [f"fusion.preset={fusion}"]
    opened = open_files(files, [*preset, *overrides])
    for path in files:  # a YAML among them, which `fuse_files` does not know
        if path.resolve() == out.resolve():
            raise ConfigError(f"--out: expected another file than those that are read; got {out}")
    check_out("--out", out)
    console = Console(stderr=True, highlight=False, markup=False)
    bad = BadEntries(skip=skip_bad)
    summary = fuse_files(opened, data, out, progress=shown_on(console), bad=bad)
    tell_bad(bad, "results")
    read = ", ".join(f"{number} of {name}" for name, number in summary.num_read.items())
    say(f"{summary.num_images} images, results {read}: {summary.num_written} written to {out}")


def _fuse_run(
    folder: Path,
    out: Path,
    *,
    data: Path | None,
    fusion: str | None,
    formats: Sequence[str],
    overrides: Sequence[str],
) -> None:
    from tis_ray.formats import coco
    from tis_ray.results.progress import shown_on
    from tis_ray.runs.folder import open_run
    from tis_ray.submission.writing import check_apart, results_files, write_results
    from tis_ray.tuning.fusing import changed, fused, remarks

    run = open_run(folder)
    ensemble = changed(run, fusion=fusion, overrides=overrides)
    files = results_files(out, formats)
    check_apart(files, folder, *([] if data is None else [data]))
    check_out("--out", out)
    for line in remarks(ensemble):
        news(line)
    if len(run.done()) < run.num_shards:
        news(f"{folder}: {len(run.done())} of {run.num_shards} shards are there; their images are fused")
    progress = shown_on(Console(stderr=True, highlight=False, markup=False))
    written = run.categories if data is None else coco.read_frames(data).categories
    outcomes = progress(fused(run, ensemble), "fusing", run.num_done, "images")
    summary = write_results(outcomes, out, categories=run.categories, written=written, files=files)
    say(f"{summary.num_images} images: {summary.num_instances} instances written to {out}")
    for path, number in summary.others:
        say(f"{number} instances: {path}")
    if summary.failed:
        news(f"{len(summary.failed)} images failed in the run, listed in {summary.failures_file}")
