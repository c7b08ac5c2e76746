"""The `tis-ray` command: each command is a few lines over the library, which is imported when it is needed.

A user's mistake ends with one line on stderr and exit code 2; exit code 1 means that images of a batch run failed.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from tis_ray.errors import ConfigError, ServiceError, TisRayError

if TYPE_CHECKING:
    from tis_ray.cluster.head import Head
    from tis_ray.submission.writing import Summary

app = typer.Typer(
    name="tis-ray",
    help="Find and segment tiny objects with multi-scale ensembles of two-stage detectors, on Ray.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file; may be repeated.")
]

Address = Annotated[
    str,
    typer.Option(
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
        show_default=False,
        metavar="URL",
        help="Ray dashboard of the cluster, as http://HEAD:8265.",
    ),
]


@app.command()
def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write: images/ and two COCO JSON files.")],
    images: Annotated[int, typer.Option(help="Number of images, a quarter of them for validation.")] = 200,
    preset: Annotated[str, typer.Option(help="driving (the 7 WAD classes) or longtail.")] = "driving",
    size: Annotated[str, typer.Option(metavar="WxH", help="Size in pixels; default 512x384.")] = "512x384",
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
) -> None:
    """Draw procedural street scenes with exact masks.

    Example: `tis-ray scenes --out scenes --images 200`
    """
    from tis_ray.data.scenes import write_scenes

    with progress() as bar:
        task = bar.add_task("drawing scenes", total=images)
        summary = write_scenes(
            out,
            num_images=images,
            preset=preset,
            size_wh=_size(size),
            seed=seed,
            on_progress=lambda done: bar.update(task, completed=done),
        )
    print(summary)


@app.command()
def train(
    recipes: Annotated[list[str], typer.Argument(help="Recipe files, or names of recipes that tis-ray ships.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the run.")] = False,
    submit: Annotated[
        str | None, typer.Option(metavar="URL", help="Train on the cluster whose Ray dashboard is there, as a job.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="With --submit: folder for the runs on the cluster, on its shared storage.")
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="With --submit: folder whose code is sent along, no data or weights; default: this one."),
    ] = None,
) -> None:
    """Train one or several members side by side on Ray.

    Example: `tis-ray train tiny_resnet18 tiny_shufflenet --set data.train.annotations=scenes/instances_train.json`
    """
    from tis_ray.config import load_recipe

    loaded = [load_recipe(recipe, overrides or ()) for recipe in recipes]
    if submit is not None:
        from tis_ray.cluster.submit import submit as send

        head = _head(submit)
        job = send(head, loaded, storage=storage, working_dir=working_dir or Path(), resume=resume, say=_news)
        _follow(head, job)
        return
    for option, value in (("--storage", storage), ("--working-dir", working_dir)):
        if value is not None:
            raise ConfigError(f"{option}: expected --submit beside it; got {option} {value} alone")
    from tis_ray.training.trainer import train as run

    for folder in run(loaded, resume=resume, console=Console(stderr=True, highlight=False)):
        print(f"checkpoint: {folder}")


@app.command()
def jobs(
    address: Address = "",
    follow: Annotated[
        str | None, typer.Option(metavar="JOB", help="Follow this job's log to its end, and fetch its checkpoints.")
    ] = None,
) -> None:
    """List the jobs of a cluster, or follow one.

    Example: `tis-ray jobs --address http://HEAD:8265`
    """
    from tis_ray.cluster.table import jobs_table

    head = _head(address)
    if follow is not None:
        _follow(head, follow)
    else:
        console().print(jobs_table(head.jobs()))


@app.command()
def stop(
    job: Annotated[str, typer.Argument(help="Name of the job, as `tis-ray jobs` lists it.")],
    address: Address = "",
) -> None:
    """Stop a job of a cluster. Its runs keep their checkpoints and can be resumed.

    Example: `tis-ray stop JOB --address http://HEAD:8265`
    """
    from tis_ray.cluster.submit import stop as end

    print(f"{job}: {end(_head(address), job).value}")


@app.command("import")
def import_weights(
    network: Annotated[str, typer.Argument(help="maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2.")],
    file: Annotated[Path, typer.Argument(help="State dict of torchvision's COCO weights, .pth or .safetensors.")],
    out: Annotated[Path, typer.Option(help="Folder to write: a checkpoint, and an ensemble.yaml that serves it.")],
) -> None:
    """Turn torchvision's public COCO weights into a checkpoint.

    Example: `tis-ray import maskrcnn_resnet50_fpn_v2 maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth --out coco`
    """
    from tis_ray.models.torchvision_import import ENSEMBLE
    from tis_ray.models.torchvision_import import import_weights as run

    run(network, file, out)
    print(f"checkpoint: {out}   ensemble: {out / ENSEMBLE}")


@app.command()
def serve(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    overrides: Overrides = None,
) -> None:
    """Serve an ensemble on this machine until Ctrl-C. On a cluster use `serve deploy` instead.

    Example: `tis-ray serve demo/ensemble.yaml --port 8000`
    """
    from tis_ray.config import load_ensemble
    from tis_ray.serving.local import serve_locally, wait_for_interrupt

    loaded = load_ensemble(ensemble, overrides or ())
    with serve_locally(loaded, host=host, port=port, dashboard=True, on_progress=_say) as service:
        _say(f"viewer: {service.url}   interface: {service.url}/docs   Ctrl-C stops it")
        wait_for_interrupt()


@app.command()
def segment(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    url: Annotated[str, typer.Option(help="Address of a running service.")] = "http://127.0.0.1:8000",
    out: Annotated[Path | None, typer.Option(help="Write the answers as JSON, one object per image.")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Write the picture with what was found drawn over it.")] = None,
    score_threshold: Annotated[float, typer.Option(help="Lowest score to show and write.")] = 0.3,
    token: Annotated[str | None, typer.Option(envvar="TIS_RAY_TOKEN", help="Bearer token of the service.")] = None,
) -> None:
    """Ask a running service for the objects in images.

    Example: `tis-ray segment street.jpg --overlay street_found.png`
    """
    from tis_ray.serving.segment import segment_files

    _check_out("--out", out)
    _check_out("--overlay", overlay)
    segment_files(
        images, url=url, token=token, out=out, overlay=overlay, score_threshold=score_threshold, console=console()
    )


@app.command()
def predict(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file.")],
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
    )
    _report(summary, out)


@app.command()
def evaluate(
    ground_truth: Annotated[Path, typer.Option(help="COCO JSON with annotations, or folder of WAD label images.")],
    predictions: Annotated[Path, typer.Option(help="COCO results JSON.")],
    image_folder: Annotated[
        Path | None, typer.Option(help="For a folder of labels: what was predicted, a folder, .txt or .json of images.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric: coco.")] = "coco",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the images for 95% intervals; 0 for none.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Score results against ground truth: box and mask AP by size.

    Example: `tis-ray evaluate --ground-truth demo/scenes/instances_val.json --predictions results.json`
    """
    import orjson

    from tis_ray.evaluation.coco import evaluate as score
    from tis_ray.evaluation.table import report_table
    from tis_ray.formats.coco_results import read_results
    from tis_ray.formats.opening import open_path

    if metric != "coco":
        raise ConfigError(f"--metric: expected coco; got '{metric}'")
    _check_out("--out", out)
    dataset = open_path(ground_truth, image_folder)
    report = score(dataset, read_results(predictions, dataset), bootstrap=bootstrap)
    console().print(report_table(report))
    if out is not None:
        out.write_bytes(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2))
        print(f"figures: {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    data: Annotated[Path | None, typer.Option(help="COCO-format folder to use in place of procedural scenes.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of scenes and training.")] = 0,
) -> None:
    """Train, serve, query, submit and score a small ensemble, from nothing, in a few minutes.

    Example: `tis-ray demo --out demo`
    """
    from tis_ray.demo import run_demo

    run_demo(out, data=data, seed=seed, console=console())


def main() -> NoReturn:
    """Entry point: runs a command and turns a user's mistake into one line and exit code 2."""
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call to Ray must not start another one
    try:
        app()
    except TisRayError as error:
        _fail(str(error))
    except OSError as error:  # a file or folder that cannot be read or written
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def console() -> Console:
    """Where results are printed: stdout."""
    return Console(highlight=False)


def progress() -> Progress:
    """A progress bar on stderr, so that results on stdout can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _size(text: str) -> tuple[int, int]:
    width, separator, height = text.lower().partition("x")
    if not separator or not width.isdecimal() or not height.isdecimal():
        raise ConfigError(f"--size: expected WIDTHxHEIGHT in pixels, as 512x384; got '{text}'")
    return int(width), int(height)


def _check_out(option: str, out: Path | None) -> None:
    """Refuse before the work begins what could not be written after it."""
    if out is None:
        return
    if option == "--out" and out.is_dir():
        raise ConfigError(f"--out: expected a file; {out} is a folder")
    if option == "--overlay" and out.suffix and out.suffix.lower() not in PICTURES:
        raise ConfigError(f"--overlay: expected a folder or a file of {', '.join(PICTURES)}; got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)


def _head(address: str) -> "Head":
    from tis_ray.cluster.head import Head

    return Head(address)


def _follow(head: "Head", job: str) -> None:
    """Show a job's log, then fetch its checkpoints; Ctrl-C leaves the job alone."""
    from tis_ray.cluster.submit import fetch, follow

    again = f"tis-ray jobs --follow {job} --address {head.address}"
    _news(f"job: {job}; Ctrl-C leaves it running")
    try:
        follow(head, job, show=_news)
        for folder in fetch(head, job, say=_news):
            print(f"checkpoint: {folder}")
    except (KeyboardInterrupt, ServiceError):
        _news(f"{job} was left alone; follow it and fetch its checkpoints: {again}")
        _news(f"stop it: tis-ray stop {job} --address {head.address}")
        raise


def _news(line: str) -> None:
    """One line on stderr, as it is."""
    print(line, file=sys.stderr, flush=True)


def _say(line: str) -> None:
    """One line of news on stdout, at once; paths in it are neither broken nor taken for markup."""
    print(line, flush=True)


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False).print(Text.assemble(("error:", "red"), f" {message}"), soft_wrap=True)
    sys.exit(2)


def _report(summary: "Summary", out: Path) -> None:
    print(f"{summary.num_images} images, {summary.num_instances} instances: {out}")
    if summary.failed:
        print(f"{len(summary.failed)} images failed, listed in {summary.failures_file}", file=sys.stderr)
        print("--resume tries them again", file=sys.stderr)
        raise typer.Exit(1)
