"""Commands around a running service: serve, segment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import Overrides, check_out, console, news, say
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from tis_ray.serving.picked import Picked
    from tis_ray.serving.segment import Summary


def serve(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file, checkpoint folder, or a shipped name.")],
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
    with serve_locally(loaded, host=host, port=port, dashboard=True, on_progress=say) as service:
        say(f"viewer: {service.url}   interface: {service.url}/docs   Ctrl-C stops it")
        wait_for_interrupt()


def segment(
    images: Annotated[list[Path], typer.Argument(help="Image files, folders of images, or quoted globs.")],
    url: Annotated[str, typer.Option(help="Address of a running service.")] = "http://127.0.0.1:8000",
    out: Annotated[Path | None, typer.Option(help="Write the answers to this file.")] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of --out: json (an array), jsonl (a line each) or coco (results). Default: by suffix."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out images with an answer; retry failures.")] = False,
    overlay: Annotated[
        Path | None, typer.Option(help="Draw what was found: a picture, or a folder for several images.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Also the folders in folders.")] = False,
    together: Annotated[int, typer.Option(min=1, help="Images asked for at once.")] = 4,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score to show and write.")] = 0.3,
    token: Annotated[str | None, typer.Option(envvar="TIS_RAY_TOKEN", help="Bearer token of the service.")] = None,
) -> None:
    """Ask a running service for the objects in images.

    Images that fail are named at the end, and the exit code is 1. Answers are kept as they come: what was broken off
    goes on with `--resume`, as in `tis-ray segment frames --recursive --out frames.jsonl --resume`.

    Example: `tis-ray segment street.jpg --overlay street_found.png`
    """
    from tis_ray.results.progress import shown_on
    from tis_ray.serving.answer_files import format_of
    from tis_ray.serving.picked import pick_images
    from tis_ray.serving.segment import Kept, segment_files

    check_out("--out", out)
    check_out("--overlay", overlay)
    if out is None and (format is not None or resume):
        raise ConfigError(f"{'--resume' if resume else '--format'}: expected --out beside it")
    picked = pick_images(images, recursive=recursive)
    summary = segment_files(
        picked,
        url=url,
        token=token,
        kept=None if out is None else Kept(out, format_of(out, format), resume),
        overlay=overlay,
        score_threshold=score_threshold,
        console=console(),
        together=together,
        progress=shown_on(Console(stderr=True, highlight=False)),
    )
    if out is not None and summary.num_answered + summary.num_before:
        say(f"answers: {out}")
    _report(summary, picked)


def _report(summary: "Summary", picked: "Picked") -> None:
    if len(picked.images) + picked.num_others > 1:
        speed = summary.num_answered / max(summary.seconds, 1e-9)
        counts = {
            "answered before": summary.num_before,
            "failed": len(summary.failed),
            "degraded (answered without some views)": summary.num_degraded,
            "other files skipped": picked.num_others,
        }
        told = [f"{number} {what}" for what, number in counts.items() if number]
        say("; ".join([f"{summary.num_answered} images in {summary.seconds:.1f} s, {speed:.2f} images/s", *told]))
    for path, reason in summary.failed:
        news(f"failed: {path}: {reason}")
    if summary.failed:
        raise typer.Exit(1)
