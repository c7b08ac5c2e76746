"""What is to be judged: a results file of any framework, or the folder of a batch run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tis_ray.errors import DataError
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.categories import class_map
from tis_ray.formats.coco_results import read_results, to_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.instances import Instances
from tis_ray.runs.folder import RunFolder, holds_run, open_run
from tis_ray.runs.joining import Join
from tis_ray.runs.records import ImageOutcome


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """COCO results for the images of a data set, and where they come from.

    path:     of the file or folder
    results:  one for each found instance, checked
    run:      the batch run that they are of, None for a file
    outcomes: of a run, how each image fared, without what was found in it
    elsewhere: of a run, how many of its images the data set lacks
    unseen:   of a run, how many images of the data set it has not looked at
    """

    path: Path
    results: list[dict[str, Any]]
    run: RunFolder | None = None
    outcomes: tuple[ImageOutcome, ...] = ()
    elsewhere: int = 0
    unseen: int = 0

    @property
    def name(self) -> str:
        """Short."""
        return self.path.stem


def read_predictions(path: Path, dataset: GroundTruth, *, bad: BadEntries | None = None) -> Predictions:
    """Read a COCO results JSON or the folder of a batch run, whose classes are joined with the data set's by name.

    Images of a run are joined with the data set's as `Join` says; others are left out.
    Raises `DataError` for other folders, for what `stream_results` refuses, unless `bad` skips and counts it, and for a
    run of other images alone; `ConfigError` for one of other classes alone.
    """
    if not path.is_dir():
        return Predictions(path, read_results(path, dataset, bad=bad))
    if not holds_run(path):
        raise DataError(f"{path}: expected a COCO results JSON or the folder of a batch run; got another folder")
    return _of_run(open_run(path), dataset)


def _of_run(run: RunFolder, dataset: GroundTruth) -> Predictions:
    index_map = class_map(run.categories, dataset.categories, key="--ground-truth")
    join, seen, elsewhere = Join(dataset, run.images), set(), 0
    results: list[dict[str, Any]] = []
    outcomes: list[ImageOutcome] = []
    for outcome in run.outcomes():
        record = join(outcome)
        if record is None:
            elsewhere += 1
            continue
        seen.add(record.id)
        outcomes.append(replace(outcome, instances=Instances.empty()))
        results += to_results(
            outcome.instances.relabelled(index_map),
            image_id=record.id,
            categories=dataset.categories,
            size_hw=(record.height, record.width),
        )
    if not outcomes and elsewhere:
        raise DataError(f"--ground-truth: expected images of the run {run.path}; {dataset.path} has none of them")
    return Predictions(run.path, results, run, tuple(outcomes), elsewhere, len(dataset) - len(seen))
