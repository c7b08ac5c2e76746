"""`tis-ray predict`: a batch run through the deployments of an ensemble, started for the run where none are up."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.formats.image_list import ListedImage, read_image_list
from tis_ray.serving.app import ensemble_categories
from tis_ray.serving.local import free_port, serve_locally
from tis_ray.serving.running import connect, fusion_handle
from tis_ray.submission.pipeline import Summary, segment_images, service_segmenter, write_coco
from tis_ray.submission.progress import watched


def predict_to_coco(
    ensemble: Ensemble,
    images: Path,
    out: Path,
    *,
    console: Console,
    address: str | None = None,
    image_folder: Path | None = None,
    in_flight: int = 8,
) -> Summary:
    """Segment `images` (folder, .txt or COCO JSON) and write COCO results to `out`.

    address: Ray cluster on which a service of this ensemble runs; None starts one here for the time of the run.
    Image ids are the JSON's own; a folder's and a list's, from 1, are noted in `<out>.images.json`.
    """
    listed = read_image_list(images, image_folder)
    categories = ensemble_categories(ensemble)
    _check_writable(out)
    with _deployed(ensemble, address, console) as handle:
        segmenter = service_segmenter(handle, ensemble.views, deadline_s=ensemble.limits.max_deadline_s)
        results = watched(segment_images(segmenter, listed, in_flight=in_flight), len(listed), console)
        summary = write_coco(results, out, categories=categories)
    if images.suffix.lower() != ".json":
        _note_ids(listed, out)
    return summary


@contextmanager
def _deployed(ensemble: Ensemble, address: str | None, console: Console) -> Iterator[Any]:
    import ray

    if address is None:
        with serve_locally(ensemble, port=free_port(), on_progress=console.print):
            yield fusion_handle()
        return
    try:
        yield connect(address, ensemble)
    finally:
        ray.shutdown()


def _check_writable(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: expected a file in a folder that can be made; got {out} ({error.strerror})"
        ) from None
    if out.is_dir():
        raise ConfigError(f"--out: expected a file; {out} is a folder")


def _note_ids(listed: list[ListedImage], out: Path) -> None:
    """Which id stands for which file, in COCO's form."""
    entries = [{"id": image.id, "file_name": image.file_name} for image in listed]
    out.with_suffix(".images.json").write_bytes(orjson.dumps({"images": entries}, option=orjson.OPT_INDENT_2))
