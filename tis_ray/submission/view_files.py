"""What each view found by itself, as COCO results files that `tis-ray fuse` fuses anew without a model."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.formats.categories import class_map
from tis_ray.formats.coco_results import ResultsWriter, to_results
from tis_ray.instances import Categories
from tis_ray.runs.records import ImageViews
from tis_ray.views import View

INDEX = "fuse.yaml"


@contextmanager
def opened(
    folder: Path, ensemble: Ensemble, *, categories: Categories, written: Categories
) -> Iterator[Callable[[ImageViews], None]]:
    """Call what is yielded with what the views of each image found.

    The folder gets a file for each view, and `fuse.yaml`, which lists them for `tis-ray fuse` with the ensemble's
    fusion section, or says why it lacks it. Labels are those of `categories`, the ids written those of `written`. A
    view that draws masks alone has found nothing by itself: its file holds the fused boxes with the masks that it
    predicted for them. One that draws in a second pass what it found boxes of in the first has the masks of its own
    boxes there.
    """
    index_map = class_map(categories, written)
    with ExitStack() as stack:
        writers = {
            view: stack.enter_context(ResultsWriter(folder / f"{name_of(view)}.json")) for view in ensemble.views
        }

        def write(image: ImageViews) -> None:
            for view, instances in image.found.items():
                lines = to_results(
                    instances.relabelled(index_map),
                    image_id=image.image_id,
                    categories=written,
                    size_hw=image.size_hw,
                )
                writers[view].write(lines)

        yield write
    unsaid = _unsaid(ensemble)
    remark = f"# The ensemble's fusion section is left out: it has {unsaid}, of which results files do not know.\n"
    (folder / INDEX).write_text((remark if unsaid else "") + yaml.safe_dump(_index(ensemble), sort_keys=False))


def make_folder(folder: Path) -> None:
    """Raise `ConfigError` for a folder that cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--views: expected a folder that can be made; got {folder} ({error.strerror})") from None


def name_of(view: View) -> str:
    """The file's stem: `r50@800`, `r50@800.flip`, `r50@720.strip.flip`."""
    return view.key + (".flip" if view.flip else "")


def _index(ensemble: Ensemble) -> dict[str, Any]:
    results = {}
    for view in ensemble.views:
        member = f"{view.member}.{view.crop_name}" if view.crop_name else view.member
        entry: dict[str, Any] = {"file": f"{name_of(view)}.json", "member": member, "scale": view.scale}
        if view.max_long_edge is not None:
            entry["max_long_edge"] = view.max_long_edge
        results[name_of(view)] = entry | ({"flip": True} if view.flip else {})
    content: dict[str, Any] = {"results": results}
    if not _unsaid(ensemble):
        section = ensemble.fusion  # beside a preset a default may be what was written over it
        content["fusion"] = section.model_dump(mode="json", exclude_defaults=section.preset is None)
    return content


def _unsaid(ensemble: Ensemble) -> str:
    """What of the ensemble's fusion results files cannot say; empty where it is nothing."""
    if any(view.crop_name for view in ensemble.views):
        return "views of parts of an image"
    return "ranges by training sizes" if ensemble.fusion.auto_ranges is not None else ""
