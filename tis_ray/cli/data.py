"""Commands over a data set, before anything is trained on it: data check, data split."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tis_ray.cli.shared import PLACE, check_out, console, data_place, optional_place, say
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from tis_ray.curation.check import Findings

app = typer.Typer(
    help="Check a data set, or split it into train and val.", no_args_is_help=True, rich_markup_mode="markdown"
)
_STYLES = {"error": "red", "warning": "yellow", "remark": "dim"}


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="COCO or LVIS JSON, or its URL; or folder of WAD label images.")],
    images: Annotated[
        str | None,
        typer.Option(metavar=PLACE, help="Folder of the pictures, where they are not beside the annotations."),
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(metavar=PLACE, help="A second set, for validation: classes and pictures are compared."),
    ] = None,
    val_images: Annotated[str | None, typer.Option(metavar=PLACE, help="Folder of its pictures.")] = None,
    frames: Annotated[
        list[Path] | None, typer.Option(help="WAD: lists of the frames to look at; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write, as report.html.")] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images, and as many of the smallest objects, shown on the page.")
    ] = 12,
    annotations_only: Annotated[bool, typer.Option("--annotations-only", help="Do not look at pictures.")] = False,
    decode_all: Annotated[
        bool,
        typer.Option("--decode-all", help="Read every pixel; else the headers of all pictures, and 200 in whole."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one for each core, at most 8.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the pictures that are read in whole and shown.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 2 for warnings, too.")] = False,
) -> None:
    """Look for what is wrong with a data set, and show what it holds.

    Everything that is wrong is counted, with examples. Exit code 2 means that training would refuse the set. Example:
    `tis-ray data check demo/scenes/instances_train.json --out report.html`
    """
    from tis_ray.curation.check import check as look
    from tis_ray.curation.opening import open_leniently
    from tis_ray.curation.pair import compare
    from tis_ray.results.progress import shown_on

    check_out("--out", out)
    source, folder = data_place("DATA", data), optional_place("--images", images)
    val_source, val_folder = optional_place("--val", val), optional_place("--val-images", val_images)
    if frames and not _is_folder(source):
        raise ConfigError(f"--frames: expected a folder of WAD label images beside it; got {data}")
    progress = shown_on(Console(stderr=True, highlight=False))
    processes = workers or min(8, os.cpu_count() or 1)

    def found(source: Path, folder: Path | None, lists: list[Path]) -> "Findings":
        truth, problems = open_leniently(source, folder, frames=lists)
        few = len(truth) < 200 and truth.in_memory  # sooner looked at than processes are started
        return look(truth, problems, pictures=not annotations_only, decode_all=decode_all,
                    workers=1 if few and workers is None else processes, seed=seed, progress=progress)  # fmt: skip

    findings = found(source, folder, frames or [])
    if val_source is not None:
        findings.problems.add(compare(findings, found(val_source, val_folder, [])))
    _print(findings)
    if out is not None:
        _write(findings, out, 0 if annotations_only else pictures, seed)
        say(f"report: {out}")
    if findings.problems.found("error") or (strict and findings.problems.found("warning")):
        raise typer.Exit(2)


@app.command()
def split(
    data: Annotated[str, typer.Argument(help="COCO or LVIS JSON, or its URL; or folder of WAD label images.")],
    out: Annotated[Path, typer.Option(help="Folder to write: train.json and val.json, of WAD train.txt and val.txt.")],
    val: Annotated[float, typer.Option(help="Share of the images that becomes the validation set.")] = 0.2,
    by: Annotated[str, typer.Option(help="What is never parted: image or video.")] = "video",
    video_pattern: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Finds the video in an image's name: its one group.")
    ] = None,
    frames: Annotated[
        list[Path] | None, typer.Option(help="WAD: the data set's lists of frames, each a video; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same parts.")] = 0,
) -> None:
    """Split a data set in two, to train and to validate; pictures stay where they are.

    Every class is left in train, if it can be. Videos are told by `video_id`, by folders, or by the time in WAD's
    names. Example: `tis-ray data split demo/scenes/instances_train.json --by image --val 0.25 --out parts`
    """
    from tis_ray.curation.split_files import split_coco, split_wad
    from tis_ray.results.progress import shown_on

    progress = shown_on(Console(stderr=True, highlight=False))
    source = data_place("DATA", data)
    if _is_folder(source):
        parts = split_wad(source, out, share=val, by=by, frames=frames or (), pattern=video_pattern, seed=seed,
                          progress=progress)  # fmt: skip
    elif frames:
        raise ConfigError(f"--frames: expected a folder of WAD label images beside it; got {data}")
    else:
        parts = split_coco(source, out, share=val, by=by, pattern=video_pattern, seed=seed, progress=progress)
    table = Table("part", "images", "share", "objects", "classes", *(["videos"] if by == "video" else []))
    for name, part in zip(("train", "val"), parts, strict=True):
        share = part.images / sum(one.images for one in parts)
        videos = [f"{part.videos:,}"] if by == "video" else []
        figures = (f"{part.images:,}", f"{share:.1%}", f"{part.objects:,}", f"{part.classes:,}")
        table.add_row(name, *figures, *videos)
    console().print(table)
    for part in parts:
        say(str(part.path))


def _is_folder(source: Path) -> bool:
    """Whether this is WAD's, whose label images lie on this machine."""
    from tis_ray.formats.locations import is_remote

    return not is_remote(source) and source.is_dir()


def _print(findings: "Findings") -> None:
    from tis_ray.curation.report import problem_rows, shares

    truth = findings.truth
    say(f"{truth.path}: {len(truth):,} images, {len(findings.areas):,} objects, {len(truth.categories):,} classes")
    if len(findings.scales):
        below = ", ".join(f"{share:.0%} below {mark:g}" for mark, share in shares(findings.scales).items())
        say(f"object size, sqrt(mask area) in px: {below}; median {float(_median(findings)):.1f}")
    say(findings.problems.verdict())
    if rows := problem_rows(findings.problems):
        table = Table("level", "number", "problem", "example")
        for (level, number, title), kind in zip(rows, findings.problems.found(), strict=True):
            table.add_row(level, f"{number:,}", title, findings.problems.examples[kind][0], style=_STYLES[level])
        table.columns[1].justify = "right"
        console().print(table)


def _median(findings: "Findings") -> float:
    import numpy as np

    return float(np.median(findings.scales))


def _write(findings: "Findings", out: Path, pictures: int, seed: int) -> None:
    from tis_ray.curation.report import page_of
    from tis_ray.curation.samples import smallest_objects, whole_images
    from tis_ray.reports.page import write

    shown = whole_images(findings, pictures, seed=seed), smallest_objects(findings, pictures)
    write(page_of(findings, whole=shown[0], smallest=shown[1]), out)
