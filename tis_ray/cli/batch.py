"""Commands over many images: predict, evaluate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import PLACE, Overrides, check_out, console, data_place
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from tis_ray.submission.writing import Summary


def predict(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file, checkpoint folder, or a shipped name.")],
    images: Annotated[Path, typer.Option(help="Folder, .txt list or COCO JSON of the images.")],
    out: Annotated[Path, typer.Option(help="Results file to write.")],
    image_folder: Annotated[
        Path | None, typer.Option(help="Folder of a COCO JSON's files, where not beside it.")
    ] = None,
    format: Annotated[
        list[str], typer.Option(help="Format of the results: coco or wad. A second one is written beside --out.")
    ] = ["coco"],  # noqa: B006
    disjoint: Annotated[
        bool, typer.Option("--disjoint", help="wad: a pixel belongs to the best instance only.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run; retry failures.")] = False,
    allow_degraded: Annotated[
        bool, typer.Option("--allow-degraded", help="Take answers that lack views, too, within quorum.views.")
    ] = False,
    views: Annotated[
        Path | None, typer.Option(help="Folder for each view's own results, to fuse anew by `tis-ray fuse`.")
    ] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Images opened or waiting at any time.")] = 8,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="Ray on which the ensemble is served; default: serve it here."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Segment many images through the deployments of an ensemble and write a submission.

    Images that fail are recorded beside the results, and the exit code is 1. A run that was killed goes on with
    `--resume`. Example:
    `tis-ray predict demo/ensemble.yaml --images demo/scenes/instances_val.json --out results.json`
    """
    from tis_ray.config import load_ensemble
    from tis_ray.submission.run import predict as run

    summary = run(
        load_ensemble(ensemble, overrides or ()),
        images,
        out,
        console=Console(stderr=True, highlight=False, markup=False),
        address=address,
        image_folder=image_folder,
        in_flight=in_flight,
        formats=format,
        disjoint=disjoint,
        resume=resume,
        allow_degraded=allow_degraded,
        views=views,
    )
    _report(summary, out)


def evaluate(
    ground_truth: Annotated[
        str, typer.Option(metavar=PLACE, help="COCO JSON with annotations, or folder of WAD label images.")
    ],
    predictions: Annotated[Path, typer.Option(help="COCO results JSON.")],
    image_folder: Annotated[
        Path | None, typer.Option(help="For a folder of labels: what was predicted, a folder, .txt or .json of images.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric: coco or lvis; by default as the ground truth is annotated.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the images for 95% intervals; 0 for none.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Score results against ground truth: box and mask AP by size and, where classes have frequencies, by those.

    Example: `tis-ray evaluate --ground-truth demo/scenes/instances_val.json --predictions results.json`
    """
    import orjson

    from tis_ray.evaluation.coco import METRICS
    from tis_ray.evaluation.coco import evaluate as score
    from tis_ray.evaluation.table import report_table
    from tis_ray.formats.coco_results import read_results
    from tis_ray.formats.opening import open_path

    if metric not in (None, *METRICS):
        raise ConfigError(f"--metric: expected one of {', '.join(METRICS)}; got '{metric}'")
    check_out("--out", out)
    dataset = open_path(data_place("--ground-truth", ground_truth), image_folder)
    report = score(dataset, read_results(predictions, dataset), metric=metric, bootstrap=bootstrap)
    console().print(report_table(report))
    if out is not None:
        out.write_bytes(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2))
        print(f"figures: {out}")


def _report(summary: "Summary", out: Path) -> None:
    print(f"{summary.num_images} images, {summary.num_instances} instances: {out}")
    for path, number in summary.others:
        print(f"{number} instances: {path}")
    if summary.failed:
        print(f"{len(summary.failed)} images failed, listed in {summary.failures_file}", file=sys.stderr)
        print("--resume tries them again", file=sys.stderr)
        raise typer.Exit(1)
