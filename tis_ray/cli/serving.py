"""Commands around a running service: serve, segment."""

from pathlib import Path
from typing import Annotated

import typer

from tis_ray.cli.shared import Overrides, check_out, console, say


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

    check_out("--out", out)
    check_out("--overlay", overlay)
    segment_files(
        images, url=url, token=token, out=out, overlay=overlay, score_threshold=score_threshold, console=console()
    )
