"""`tis-ray predict`: a batch run through the deployments of an ensemble, started for the run where none are up."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.image_list import ListedImage, read_image_list
from tis_ray.formats.members import ensemble_categories
from tis_ray.instances import Categories
from tis_ray.serving.local import free_port, serve_locally
from tis_ray.serving.running import connect, fusion_handle
from tis_ray.submission.pipeline import Summary, class_map, segment_images, write_coco, write_whole
from tis_ray.submission.progress import watched
from tis_ray.submission.service import ServiceSegmenter


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
    Image ids are the JSON's own; a folder's and a list's, from 1, are noted in `<out>.images.json`. Category ids are
    the JSON's too, joined by name; instances of classes that it lacks are left out.
    """
    _check_writable(out, images)
    listed = read_image_list(images, image_folder)
    categories = ensemble_categories(ensemble)
    written = _table(images, image_folder) or categories
    class_map(categories, written)
    if images.suffix.lower() != ".json":
        _note_ids(listed, out)
    with (
        _deployed(ensemble, address, console) as handle,
        closing(ServiceSegmenter(handle, ensemble.views, deadline_s=ensemble.limits.max_deadline_s)) as segmenter,
        closing(segment_images(segmenter, listed, in_flight=in_flight)) as results,
        closing(watched(results, len(listed), console)) as shown,
    ):
        summary = write_coco(shown, out, categories=categories, written=written)
    if summary.num_dropped:
        console.print(f"left out {summary.num_dropped} instances of classes that {images} does not list", markup=False)
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


def _table(images: Path, image_folder: Path | None) -> Categories | None:
    """The classes of a COCO JSON, where there are any."""
    if images.suffix.lower() != ".json":
        return None
    return coco.read(images, image_folder, annotated=False).categories or None


def _check_writable(out: Path, images: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: expected a file in a folder that can be made; got {out} ({error.strerror})"
        ) from None
    if out.is_dir():
        raise ConfigError(f"--out: expected a file; {out} is a folder")
    for path in (out, out.with_suffix(".failed.json"), out.with_suffix(".images.json")):
        if path.resolve() == images.resolve():
            raise ConfigError(f"--out: expected another file than --images, which {path} would overwrite; got {out}")


def _note_ids(listed: list[ListedImage], out: Path) -> None:
    """Which id stands for which file, in COCO's form."""
    entries = [{"id": image.id, "file_name": image.file_name} for image in listed]
    write_whole(out.with_suffix(".images.json"), {"images": entries})
