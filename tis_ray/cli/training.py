"""Commands that make members: scenes, train, import."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tis_ray.cli.cluster import follow_and_fetch, head_at
from tis_ray.cli.shared import Overrides, news, progress, size_wh
from tis_ray.errors import ConfigError


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write: images/, stuff/ and two COCO JSON files.")],
    images: Annotated[int, typer.Option(help="Number of images, a quarter of them for validation.")] = 200,
    preset: Annotated[str, typer.Option(help="driving (the 7 WAD classes), longtail or thin.")] = "driving",
    size: Annotated[str, typer.Option(metavar="WxH", help="Size in pixels; default 512x384.")] = "512x384",
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
) -> None:
    """Draw procedural street scenes with exact masks, and maps of what shows where there is no object.

    Example: `tis-ray scenes --out scenes --images 200`
    """
    from tis_ray.data.scenes import write_scenes

    with progress() as bar:
        task = bar.add_task("drawing scenes", total=images)
        summary = write_scenes(
            out,
            num_images=images,
            preset=preset,
            size_wh=size_wh("--size", size),
            seed=seed,
            on_progress=lambda done: bar.update(task, completed=done),
        )
    objects = ", ".join(f"{name} {count}" for name, count in summary.instances.items())
    print(f"{summary.num_train} images to train on, {summary.num_val} to validate; objects: {objects}")
    print(f"below 16 px: {summary.share_under_16px:.0%}   below 32 px: {summary.share_under_32px:.0%}")
    print(f"{summary.train_json}   {summary.val_json}")


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
    """Train one or several members side by side on Ray; one that begins from another's checkpoint waits for it.

    Example: `tis-ray train tiny_resnet18 tiny_shufflenet --set data.train.annotations=scenes/instances_train.json`
    """
    from tis_ray.config import load_recipe

    loaded = [load_recipe(recipe, overrides or ()) for recipe in recipes]
    if submit is not None:
        from tis_ray.cluster.submit import submit as send

        head = head_at(submit)
        job = send(head, loaded, storage=storage, working_dir=working_dir or Path(), resume=resume, say=news)
        follow_and_fetch(head, job)
        return
    for option, value in (("--storage", storage), ("--working-dir", working_dir)):
        if value is not None:
            raise ConfigError(f"{option}: expected --submit beside it; got {option} {value} alone")
    from tis_ray.training.trainer import train as run

    for folder in run(loaded, resume=resume, console=Console(stderr=True, highlight=False)):
        print(f"checkpoint: {folder}")


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, OUTPUT/NAME, that have finished or go on.")],
) -> None:
    """Write report.html into the folder of a run: its scores, losses, speed and what it finds.

    Training writes it at its end. Example: `tis-ray report runs/tis_r50`
    """
    from tis_ray.training.report import write_report

    for run in runs:
        print(f"report: {write_report(run)}")


def import_weights(
    network: Annotated[str, typer.Argument(help="maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2.")],
    file: Annotated[Path, typer.Argument(help="State dict of torchvision's COCO weights, .pth or .safetensors.")],
    out: Annotated[Path, typer.Option(help="Folder to write: a checkpoint, and an ensemble.yaml that serves it.")],
) -> None:
    """Turn torchvision's public COCO weights into a checkpoint.

    Example: `tis-ray import maskrcnn_resnet50_fpn_v2 maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth --out coco`
    """
    from tis_ray.config import ENSEMBLE
    from tis_ray.models.torchvision_import import import_weights as run

    run(network, file, out)
    print(f"checkpoint: {out}   ensemble: {out / ENSEMBLE}")
