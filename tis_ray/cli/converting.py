"""The command that writes results in other formats: convert."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import SkipBad, check_out, news, say, tell_bad


def convert(
    source: Annotated[
        Path, typer.Argument(help="Folder of a batch run, a COCO results JSON, or a CSV of the WAD 2018 challenge.")
    ],
    out: Annotated[Path, typer.Option(help="Results file to write.")],
    format: Annotated[
        list[str],
        typer.Option(help="Format: coco, lvis, annotations or wad. A second one is written beside --out."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="COCO JSON of the images and categories; a file needs it, a run takes category ids from it."),
    ] = None,
    disjoint: Annotated[
        bool, typer.Option("--disjoint", help="wad: a pixel belongs to the best instance only.")
    ] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Write the results of a batch run, or of a file, in another format.

    Example: `tis-ray convert results.run --out labels.json --format annotations`
    """
    from tis_ray.formats.bad_entries import BadEntries
    from tis_ray.results.progress import shown_on
    from tis_ray.submission.converting import convert as run

    check_out("--out", out)
    bad = BadEntries(skip=skip_bad)
    progress = shown_on(Console(stderr=True, highlight=False, markup=False))
    summary = run(source, out, formats=format, data=data, disjoint=disjoint, bad=bad, progress=progress)
    tell_bad(bad, "results")
    say(f"{summary.num_images} images, {summary.num_instances} instances: {out}")
    for path, number in summary.others:
        say(f"{number} instances: {path}")
    if summary.num_dropped:
        news(f"left out {summary.num_dropped} instances: the format or its table of classes has no place for them")
    if summary.num_unseen:
        news(f"{summary.num_unseen} images are left out: the run has not looked at them yet (predict --resume goes on)")
    if summary.failed:
        news(f"{len(summary.failed)} images failed in the run, listed in {summary.failures_file}")
