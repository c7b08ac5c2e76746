"""The metrics by their names, and their figures as tables for a terminal."""

from collections.abc import Sequence
from typing import Any, Protocol

from rich.table import Table

from tis_ray.errors import InputError
from tis_ray.evaluation.coco import METRICS as AP_METRICS
from tis_ray.evaluation.coco import CocoReport, evaluate
from tis_ray.evaluation.comparison import Result
from tis_ray.evaluation.proposals import ProposalRecall, proposal_recall
from tis_ray.evaluation.table import percent, report_table
from tis_ray.evaluation.wad import KaggleReport, evaluate_coco, evaluate_kaggle
from tis_ray.formats.dataset import GroundTruth

METRICS = (*AP_METRICS, "wad-kaggle", "wad-coco", "proposals")
WITH_INTERVALS = (*AP_METRICS, "wad-coco")


class Report(Protocol):
    """What every metric answers: figures as plain JSON."""

    def to_json(self) -> dict[str, Any]: ...


def evaluate_by(
    metric: str | None, dataset: GroundTruth, results: Sequence[Result], *, bootstrap: int = 0, seed: int = 0
) -> Report:
    """Score COCO results by one of `METRICS`; None is `lvis` or `coco`, as the data set is annotated.

    `bootstrap` and `seed` are as in `coco.evaluate`; metrics without intervals do not look at them.
    """
    if metric == "wad-kaggle":
        return evaluate_kaggle(dataset, results)
    if metric == "wad-coco":
        return evaluate_coco(dataset, results, bootstrap=bootstrap, seed=seed)
    if metric == "proposals":
        return proposal_recall(dataset, results)
    if metric is not None and metric not in AP_METRICS:
        raise InputError(f"metric: expected one of {', '.join(METRICS)}; got {metric!r}")
    return evaluate(dataset, results, metric=metric, bootstrap=bootstrap, seed=seed)


def figures(reports: Sequence[tuple[str, Report]]) -> dict[str, Any]:
    """The figures of one metric as they are, of several by the names of the metrics."""
    named = {name: report.to_json() | {"metric": name} for name, report in reports}
    return next(iter(named.values())) if len(named) == 1 else named


def metric_table(name: str, report: Report) -> Table:
    """The figures of one metric in percent; n/a for what is undefined."""
    if isinstance(report, KaggleReport):
        return _kaggle_table(report)
    if isinstance(report, ProposalRecall):
        return _proposals_table(report)
    if not isinstance(report, CocoReport):
        raise TypeError(f"report: expected that of a metric; got {type(report).__name__}")
    table = report_table(report)
    if name == "wad-coco":
        table.title = f"{table.title}, by COCO's metric of WAD's classes"
    return table


def _kaggle_table(report: KaggleReport) -> Table:
    found = f"{report.num_images} images, {report.num_objects} objects, {report.num_results} found"
    table = Table(title=f"{found}, by WAD's Kaggle metric as an entrant restated it")
    table.add_column("", no_wrap=True)
    for name in ("AP", "AP50", "AP75"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("mask", percent(report.AP), percent(report.AP50), percent(report.AP75))
    return table


def _proposals_table(report: ProposalRecall) -> Table:
    table = Table(title=f"{report.num_images} images, recall of boxes whatever their classes, by object size in px")
    table.add_column("size", no_wrap=True)
    table.add_column("objects", justify="right", no_wrap=True)
    for most in report.max_proposals:
        table.add_column(f"AR{most}", justify="right", no_wrap=True)
    for j, name in enumerate(report.sizes):
        table.add_row(name, str(report.counts[j]), *(percent(float(value)) for value in report.recall[:, j]))
    return table
