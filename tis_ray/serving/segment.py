"""`tis-ray segment`: ask a running service for a few files, print what it found, draw it, keep it as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from tis_ray.errors import ConfigError
from tis_ray.formats.images import open_image
from tis_ray.overlay import draw_overlay
from tis_ray.serving.client import Client, Result


def segment_files(
    images: Sequence[Path],
    *,
    url: str,
    token: str | None,
    out: Path | None,
    overlay: Path | None,
    score_threshold: float,
    console: Console,
) -> None:
    """Segment every image; `overlay` is a picture for one image, a folder for several."""
    if overlay is not None and len(images) > 1 and overlay.suffix:
        raise ConfigError(f"--overlay: expected a folder for {len(images)} images; got {overlay}")
    results = []
    with Client(url, token=token) as client:
        for path in images:
            result = client.segment(path, score_threshold=score_threshold)
            console.print(_table(path, result))
            results.append({"file_name": str(path), **asdict(result)})
            if overlay is not None:
                drawn = overlay if len(images) == 1 and overlay.suffix else overlay / f"{path.stem}.png"
                _draw(path, result, drawn, score_threshold)
                console.print(f"overlay: {drawn}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
        console.print(f"answers: {out}")


def _draw(path: Path, result: Result, drawn: Path, score_threshold: float) -> None:
    drawn.parent.mkdir(parents=True, exist_ok=True)
    draw_overlay(open_image(path), result.instances, score_threshold=score_threshold).save(drawn)


def _table(path: Path, result: Result) -> Table:
    views = f"{sum(view.status == 'ok' for view in result.views)}/{len(result.views)} views"
    table = Table(title=f"{path}: {len(result.instances)} instances, {views}, {result.timings['total_s']:.2f} s")
    for name in ("category", "score", "x", "y", "width", "height"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for found in result.instances:
        table.add_row(found.category, f"{found.score:.2f}", *(f"{value:.1f}" for value in found.bbox))
    return table
