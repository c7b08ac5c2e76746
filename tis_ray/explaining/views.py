"""How a batch run went, and what each of its views finds by itself, how fast."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.evaluation.overlaps import Kind
from tis_ray.explaining.predictions import Predictions
from tis_ray.explaining.words import count, percent
from tis_ray.formats.dataset import GroundTruth
from tis_ray.reports import plots
from tis_ray.reports.page import Block, Cell, Figure, Table, Text
from tis_ray.tuning.scoring import Bench

_MOST_NAMED = 20
_EVERY_SIZE: dict[str, Any] = {"ranges": {}, "auto_ranges": None}


@dataclass(frozen=True, slots=True)
class ViewRow:
    """A view by itself or several fused: scores 0..1, -1 where undefined, and seconds of an image in the median.

    views: how many they are; seconds: None where nobody told, or where it is several
    """

    name: str
    views: int
    AP: float
    AP50: float
    APs: float
    seconds: float | None = None


def score_views(predictions: Predictions, dataset: GroundTruth, kind: Kind) -> list[ViewRow]:
    """Each view by itself, each member with all of its views, and the ensemble; nothing where no views were kept.

    A view alone is scored without valid ranges, which only make sense beside other scales. A member that draws masks of
    given boxes alone has no row, nor have several views whose ranges need checkpoints that are not here.
    """
    run = predictions.run
    if run is None or not run.keeps_views or len(dataset) == 0:
        return []
    bench = Bench.of(run, dataset, masks=kind == "segm")
    seconds = seconds_of(predictions)
    rows = []
    for name, ensemble, views in _sets(run.ensemble):
        try:
            scores = bench.report(ensemble, views=views, kinds=(kind,))[kind]
        except ConfigError:  # training sizes are missing
            continue
        rows.append(ViewRow(name, len(views), scores.AP, scores.AP50, scores.APs, seconds.get(name)))
    return rows


def seconds_of(predictions: Predictions) -> dict[str, float]:
    """The median seconds of an image that each view took, by its name."""
    took: dict[str, list[float]] = {}
    for outcome in predictions.outcomes:
        for view in outcome.outcomes:
            if view.status == "ok":
                took.setdefault(view.view, []).append(view.seconds)
    return {name: float(np.median(values)) for name, values in took.items()}


def run_blocks(predictions: Predictions, views: Sequence[ViewRow], kind: Kind, folder: Path) -> list[Block]:
    """How images fared, and the table of views."""
    return [*_outcome_blocks(predictions), *_view_blocks(predictions, views, kind, folder)]


def run_json(predictions: Predictions, views: Sequence[ViewRow]) -> dict[str, Any]:
    """Counts and rows as plain values."""
    return {
        "images": dict(Counter(outcome.status for outcome in predictions.outcomes)),
        "images_elsewhere": predictions.elsewhere,
        "images_unseen": predictions.unseen,
        "failed": {one.file_name: one.error for one in predictions.outcomes if one.status == "failed"},
        "degraded": {one.file_name: list(one.missing) for one in predictions.outcomes if one.status == "degraded"},
        "seconds_per_view": seconds_of(predictions),
        "views": [asdict(row) for row in views],
    }


def _outcome_blocks(predictions: Predictions) -> list[Block]:
    counts = Counter(outcome.status for outcome in predictions.outcomes)
    told = (
        f"{count(len(predictions.outcomes), 'image')}: {counts['ok']:,} whole, {counts['degraded']:,} degraded, in "
        f"which views are missing, and {counts['failed']:,} failed, whose objects count as missed."
    )
    if predictions.unseen:
        told += (
            f" The run has not looked at {count(predictions.unseen, 'image')} of the data set, on which views are not "
            "scored; above, their objects count as missed."
        )
    if predictions.elsewhere:
        told += f" {count(predictions.elsewhere, 'image')} of the run are not in the data set."
    blocks: list[Block] = [Text(told)]
    for status, of in (("failed", lambda one: one.error), ("degraded", lambda one: ", ".join(one.missing))):
        rows = [(one.file_name, of(one)) for one in predictions.outcomes if one.status == status]
        first = f", the first {_MOST_NAMED}" if len(rows) > _MOST_NAMED else ""
        if rows:
            header = "why" if status == "failed" else "missing views"
            blocks.append(
                Table(["image", header], rows[:_MOST_NAMED], folded=f"{count(len(rows), 'image')} {status}{first}")
            )
    return blocks


def _view_blocks(predictions: Predictions, views: Sequence[ViewRow], kind: Kind, folder: Path) -> list[Block]:
    seconds = seconds_of(predictions)
    if not views:
        told = "Views have no scores of their own: the run kept none (tis-ray predict --keep-views), or nobody asked."
        timed = [(name, round(value, 3)) for name, value in seconds.items()]
        return [Text(told), *([Table(["view", "s, in the median"], timed)] if timed else [])]
    word = "mask" if kind == "segm" else "box"
    rows: list[tuple[Cell, ...]] = [
        (row.name, row.views, percent(row.AP), percent(row.AP50), percent(row.APs),
         None if row.seconds is None else round(row.seconds, 3))
        for row in views
    ]  # fmt: skip
    headers = ["", "views", f"{word} AP, %", "AP50", "small", "s, in the median"]
    blocks: list[Block] = [Table(headers, rows)]
    timed_rows = [row for row in views if row.seconds is not None and row.AP >= 0]
    if len(timed_rows) > 1:
        svg = plots.points(
            {row.name: (row.seconds or 0.0, 100 * row.AP) for row in timed_rows},
            xlabel="seconds of an image, in the median", ylabel=f"{word} AP, %", png=folder / "views.png",
        )  # fmt: skip
        alt = "; ".join(f"{row.name}: AP {percent(row.AP)} in {row.seconds:.3f} s" for row in timed_rows)
        blocks.append(
            Figure(svg, f"AP over seconds of each view: {alt}", "Each view by itself: what it finds, how fast.")
        )
    return blocks


def _sets(ensemble: Ensemble) -> list[tuple[str, Ensemble, list[Any]]]:
    """Names of rows, with what fuses them and of which views."""
    alone = ensemble.model_copy(update={"fusion": ensemble.fusion.model_copy(update=_EVERY_SIZE)})
    boxed = [view for view in ensemble.views if ensemble.fusion.role(view.member) != "masks"]
    rows: list[tuple[str, Ensemble, list[Any]]] = [(view.name, alone, [view]) for view in boxed]
    for name in dict.fromkeys(view.member for view in boxed):
        own = [view for view in boxed if view.member == name]
        if 1 < len(own) < len(ensemble.views):
            rows.append((f"{name}, all its views", ensemble, own))
    if len(ensemble.views) > 1:
        rows.append(("the ensemble", ensemble, list(ensemble.views)))
    return rows
