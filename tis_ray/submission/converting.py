"""Results from one format into others: of a batch run's folder, a COCO results JSON or a WAD 2018 CSV."""

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from tis_ray.config import ResultsFiles, parse
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.coco import CocoDataset, read_frames
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.wad_classes import WITH_RIDER
from tis_ray.formats.wad_csv import image_id_of, stream_csv
from tis_ray.instances import Categories, Instances
from tis_ray.masks import RunMasks
from tis_ray.ops import rle as rle_ops
from tis_ray.ops.run_algebra import bounds
from tis_ray.results.progress import Progress, silent
from tis_ray.results.reading import per_image
from tis_ray.results.spool import Spool
from tis_ray.runs.folder import open_run
from tis_ray.runs.records import ImageOutcome
from tis_ray.submission.writing import Summary, check_apart, rehearse, results_files, write_results


def convert(
    source: Path,
    out: Path,
    *,
    formats: Sequence[str],
    data: Path | None = None,
    disjoint: bool = False,
    bad: BadEntries | None = None,
    progress: Progress = silent,
) -> Summary:
    """Write what `source` holds to `out` in the first of the `formats`, and beside it in the others.

    source: the folder of a batch run, as far as it is done; a COCO results `.json`; a `.csv` of the WAD 2018 challenge,
            whose instances get the boxes of their masks
    data:   COCO JSON of the images and categories, of which annotations are not needed. A file needs it; of a run it
            says which category ids are written, by default the ensemble's
    bad:    counts wrong results of a file, and leaves them out where it skips them

    Memory follows one image; results of a file wait in a nameless one beside `out`, or in `TMPDIR` where that is set.
    Raises `ConfigError` for formats and classes that do not fit and `DataError` for wrong files.
    """
    files = results_files(out, formats, disjoint=disjoint)
    check_apart(files, source, *([] if data is None else [data]))
    frames = None if data is None else read_frames(data)
    if source.is_dir():
        run = open_run(source)
        written = run.categories if frames is None else frames.categories
        rehearse(files, run.images, written)
        outcomes = progress(run.outcomes(), "writing", run.num_done, "images")
        summary = write_results(outcomes, out, categories=run.categories, written=written, files=files)
        return replace(summary, num_unseen=len(run.images) - summary.num_images)
    if frames is None:
        raise ConfigError(f"--data: expected a COCO JSON of the images and categories that {source} is of; got none")
    images = [ListedImage(one.id, one.file_name, one.path, (one.height, one.width)) for one in frames.images]
    rehearse(files, images, frames.categories)
    folder = Path(os.environ.get("TMPDIR") or out.parent)
    suffix = source.suffix.lower()
    if suffix == ".csv":
        categories = _wad_table(frames.categories)
        found = _of_csv(source, frames, folder, bad, progress)
    elif suffix == ".json":
        categories = frames.categories
        found = _of_results(source, frames, folder, bad, progress)
    else:
        raise ConfigError(f"SOURCE: expected the folder of a run, a results .json or a WAD .csv; got {source}")
    with closing(found):
        return write_results(
            found, out, categories=categories, written=frames.categories, files=files, note_failures=False
        )


def _of_results(
    path: Path, frames: CocoDataset, folder: Path, bad: BadEntries | None, progress: Progress
) -> Generator[ImageOutcome]:
    files = parse(ResultsFiles, {"results": {"found": str(path)}}, (), source=str(path)).located_in(Path())
    with closing(per_image(files, frames, folder=folder, progress=progress, doing="writing", bad=bad)) as images:
        for record, found in images:
            yield ImageOutcome(record.id, record.file_name, (record.height, record.width), "ok", found["found"])


def _of_csv(
    path: Path, frames: CocoDataset, folder: Path, bad: BadEntries | None, progress: Progress
) -> Generator[ImageOutcome]:
    sizes_hw = {image_id_of(one.file_name): (one.height, one.width) for one in frames.images}
    if len(sizes_hw) < len(frames):
        raise DataError(f"{frames.path}: expected file names that differ without their folders, as a CSV names images")
    with Spool(folder) as spool:
        for image_id, row in progress(stream_csv(path, sizes_hw.get, bad=bad), "reading", None, "lines"):
            label = WITH_RIDER.ids.index(row.label_id)
            spool.add(image_id, orjson.dumps([label, row.score, row.rle["counts"]]))
        for record in progress(frames.images, "writing", len(frames), "images"):
            rows = orjson.loads(b"[" + b",".join(spool.take(image_id_of(record.file_name))) + b"]")
            size_hw = record.height, record.width
            yield ImageOutcome(record.id, record.file_name, size_hw, "ok", _instances(rows, size_hw))


def _instances(rows: Sequence[tuple[int, float, str]], size_hw: tuple[int, int]) -> Instances:
    runs = rle_ops.to_runs([{"size": list(size_hw), "counts": counts} for _, _, counts in rows], *size_hw)
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    return Instances.of(bounds(runs), scores, labels, RunMasks(runs))


def _wad_table(written: Categories) -> Categories:
    """The challenge's classes, in the word for motorbikes that the data set has."""
    if "motorcycle" not in written.names:
        return WITH_RIDER
    names = tuple("motorcycle" if name == "motorbicycle" else name for name in WITH_RIDER.names)
    return Categories(WITH_RIDER.ids, names)
