"""Fusing results files into one, image by image."""

import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tis_ray.config import ResultsFiles
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.coco_results import ResultsWriter, to_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.fusion.fuse import Fuser
from tis_ray.results.progress import Progress, silent
from tis_ray.results.reading import per_image


@dataclass(frozen=True, slots=True)
class Summary:
    """What was fused: the images of the data set, the results read of each file by its name, and those written."""

    num_images: int
    num_read: dict[str, int]
    num_written: int


def fuse_files(
    files: ResultsFiles,
    data: Path | str | GroundTruth,
    out: Path | str,
    *,
    progress: Progress = silent,
    bad: BadEntries | None = None,
) -> Summary:
    """Fuse COCO results files, without a model, into the COCO results file `out`.

    data: the images that the results are of, a COCO JSON file whose annotations are not needed, or an opened data set
    bad:  counts wrong results and leaves them out, where it skips them

    The bytes of `out` depend on what the files hold, not on the order of files or of their lines. A mask that is kept
    is written as it came. Memory follows one image; the results wait in a nameless file in the folder of `out`, or in
    that of `TMPDIR` where it is set. Raises `ConfigError` for a wrong config and `DataError` for wrong files; nothing
    is left behind then.
    """
    out = Path(out)
    dataset = coco.read_frames(data) if isinstance(data, (str, Path)) else data
    for name, path in (
        ("--data", dataset.path),
        *((f"results.{name}", one.file) for name, one in files.results.items()),
    ):
        if out.resolve() == path.resolve():
            raise ConfigError(f"--out: expected another file than {name}; got {out}")
    fuser, views = Fuser(files.section, dataset.categories), files.views
    sources = sorted(views.values())
    num_read = Counter(dict.fromkeys(files.results, 0))
    folder = Path(os.environ.get("TMPDIR") or out.parent)
    read = per_image(files, dataset, folder=folder, progress=progress, bad=bad)
    with ResultsWriter(out) as writer, closing(read) as images:
        for record, found in images:
            num_read.update({name: len(instances) for name, instances in found.items()})
            size_hw = record.height, record.width
            by_view = {views[name]: instances for name, instances in found.items()}
            fused = fuser.fuse(by_view, image_hw=size_hw, sources=sources)
            writer.write(to_results(fused, image_id=record.id, categories=dataset.categories, size_hw=size_hw))
    return Summary(len(dataset.images), dict(num_read), writer.num_results)
