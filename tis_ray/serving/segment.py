"""`tis-ray segment`: ask a running service for a few files, print what it found, draw it, keep it as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tis_ray.errors import ConfigError, InputError, ServiceError
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
    """Segment every image; `overlay` is a picture for one image, a folder for several.

    An image that fails does not stop the others. Raises `ServiceError` at the end naming those that failed; what was
    answered until then, or until Ctrl-C, is in `out` all the same.
    """
    drawings = _drawings(images, overlay)
    answers: list[dict[str, Any]] = []
    failed: list[str] = []
    try:
        with Client(url, token=token) as client:
            for path in images:
                try:
                    result = client.segment(path, score_threshold=score_threshold)
                except (InputError, ServiceError) as error:
                    failed.append(f"{path}: {error}")
                    continue
                answers.append({"file_name": str(path), **_plain(result)})
                console.print(_table(path, result))
                if path in drawings:
                    _draw(path, result, drawings[path], score_threshold)
                    console.print(f"overlay: {drawings[path]}", markup=False, soft_wrap=True)
    finally:
        if out is not None and answers:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(orjson.dumps(answers, option=orjson.OPT_INDENT_2))
            console.print(f"answers: {out}", markup=False, soft_wrap=True)
    if failed:
        raise ServiceError(f"{len(failed)} of {len(images)} images failed: {'; '.join(failed)}")


def _plain(result: Result) -> dict[str, Any]:
    """The answer as the service wrote it: an instance whose mask has no score of its own has no such key."""
    answer = asdict(result)
    for row in answer["instances"]:
        if row["mask_score"] is None:
            del row["mask_score"]
    return answer


def _drawings(images: Sequence[Path], overlay: Path | None) -> dict[Path, Path]:
    """Where each image's overlay goes, no two to the same file."""
    if overlay is None:
        return {}
    if len(images) == 1 and overlay.suffix:
        return {images[0]: overlay}
    if overlay.suffix:
        raise ConfigError(f"--overlay: expected a folder for {len(images)} images; got {overlay}")
    drawings = {path: overlay / f"{path.stem}.png" for path in images}
    doubles = sorted({str(path) for path in drawings if list(drawings.values()).count(drawings[path]) > 1})
    if doubles:
        raise ConfigError(f"--overlay: expected images of different names; got {', '.join(doubles)}")
    return drawings


def _draw(path: Path, result: Result, drawn: Path, score_threshold: float) -> None:
    drawn.parent.mkdir(parents=True, exist_ok=True)
    draw_overlay(open_image(path), result.instances, score_threshold=score_threshold).save(drawn)


def _table(path: Path, result: Result) -> Table:
    views = f"{sum(view.status == 'ok' for view in result.views)}/{len(result.views)} views"
    table = Table(
        title=f"{escape(str(path))}: {len(result.instances)} instances, {views}, {result.timings['total_s']:.2f} s"
    )
    for name in ("category", "score", "x", "y", "width", "height"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for found in result.instances:
        table.add_row(found.category, f"{found.score:.2f}", *(f"{value:.1f}" for value in found.bbox))
    return table
