"""Commands over many images: predict."""

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import PLACE, Overrides, SkipBad, data_place, optional_place, tell_bad

if TYPE_CHECKING:
    from tis_ray.submission.writing import Summary


class Retry(Enum):
    """What images may be looked at again for."""

    failed = "failed"
    degraded = "degraded"


class Readers(Enum):
    """Who opens images."""

    here = "here"
    cluster = "cluster"


def predict(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file, checkpoint folder, or a shipped name.")],
    images: Annotated[
        str, typer.Option(metavar=PLACE, help="Folder, .txt list, .parquet table or COCO JSON of the images.")
    ],
    out: Annotated[Path, typer.Option(help="Results file to write; its run is kept beside it, in a folder .run.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run, to keep it elsewhere.")] = None,
    image_folder: Annotated[
        str | None, typer.Option(metavar=PLACE, help="Folder of a list's files, where not beside it.")
    ] = None,
    skip_bad: SkipBad = False,
    format: Annotated[
        list[str],
        typer.Option(
            help="Format of the results: coco, lvis, wad or annotations. A second one is written beside --out."
        ),
    ] = ["coco"],  # noqa: B006
    disjoint: Annotated[
        bool, typer.Option("--disjoint", help="wad: a pixel belongs to the best instance only.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    retry: Annotated[
        list[Retry] | None, typer.Option(help="Go on, and look again at the images that failed or are degraded.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run that is there and begin anew.")] = False,
    allow_degraded: Annotated[
        bool, typer.Option("--allow-degraded", help="Take answers that lack views, too, within quorum.views.")
    ] = False,
    keep_views: Annotated[
        bool, typer.Option("--keep-views", help="Keep what each view found, to fuse anew by `tis-ray fuse`.")
    ] = False,
    views: Annotated[
        Path | None, typer.Option(help="Folder for the same as results files; implies --keep-views.")
    ] = None,
    in_process: Annotated[
        bool | None,
        typer.Option(
            "--in-process/--service",
            help="In this process without Ray, or by a service. Default: in this process for up to 100 images without "
            "--address, --replicas and --readers cluster.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="Ray on which the ensemble is served; default: serve it here."),
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option(metavar="N|NAME=N", help="Replicas of all view servers, or of one, while the run lasts."),
    ] = None,
    readers: Annotated[
        Readers | None,
        typer.Option(
            help="Where images are opened and the run is written: here, or on the cluster's nodes, which share its "
            "storage. Default: cluster with --address and --replicas, else here."
        ),
    ] = None,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="Images opened or waiting at any time. Default: 8, more with --replicas.")
    ] = None,
    images_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Images that are written together. Default: 32.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Segment many images by an ensemble and write a submission.

    What is found is kept in the folder of the run: one that was stopped or killed goes on with `--resume`. Images that
    fail are listed beside the results, the exit code is 1, and `--retry failed` looks at them again.

    Example:
    `tis-ray predict demo/ensemble.yaml --images demo/scenes/instances_val.json --out results.json`
    """
    from tis_ray.config import load_ensemble
    from tis_ray.formats.bad_entries import BadEntries
    from tis_ray.submission.run import predict as predict_images

    bad = BadEntries(skip=skip_bad)
    summary = predict_images(
        load_ensemble(ensemble, overrides or ()),
        data_place("--images", images),
        out,
        console=Console(stderr=True, highlight=False, markup=False),
        run=run,
        address=address,
        in_process=in_process,
        replicas=replicas or (),
        readers=None if readers is None else readers.value,
        image_folder=optional_place("--image-folder", image_folder),
        in_flight=in_flight,
        images_per_shard=images_per_shard,
        formats=format,
        disjoint=disjoint,
        resume=resume,
        retry=[one.value for one in retry or ()],
        fresh=fresh,
        allow_degraded=allow_degraded,
        keep_views=keep_views,
        views=views,
        bad=bad,
    )
    tell_bad(bad, "images")
    _report(summary, out)


def _report(summary: "Summary", out: Path) -> None:
    print(f"{summary.num_images} images, {summary.num_instances} instances: {out}")
    for path, number in summary.others:
        print(f"{number} instances: {path}")
    if summary.failed:
        print(f"{len(summary.failed)} images failed, listed in {summary.failures_file}", file=sys.stderr)
        print("--retry failed looks at them again", file=sys.stderr)
        raise typer.Exit(1)
