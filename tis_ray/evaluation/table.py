"""Scores as tables for a terminal, in percent."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tis_ray.evaluation.coco import CocoReport, KindScores

_NAMES = {"bbox": "box", "segm": "mask"}
_BY_LVIS = {"coco": "", "lvis": ", by LVIS's rules"}


def report_table(report: CocoReport) -> Table:
    """Boxes and masks as rows, scores as columns; n/a where there is nothing to score.

    Where there are scores by frequency it is the other way about, and each has its interval beside it.
    """
    found = f"{report.num_images} images, {report.num_objects} objects, {report.num_results} found"
    table = Table(title=found + _BY_LVIS[report.metric])
    table.add_column("", no_wrap=True)
    return (_scores_down if "APr" in report.names else _scores_across)(table, report)


def _scores_across(table: Table, report: CocoReport) -> Table:
    with_interval = any(scores.AP_interval for scores in report.scores.values())
    for name in report.names:
        table.add_column(name, justify="right", no_wrap=True)
    if with_interval:
        table.add_column("AP 95% interval", justify="right", no_wrap=True)
    for kind, scores in report.scores.items():
        cells = [percent(getattr(scores, name)) for name in report.names]
        table.add_row(_NAMES.get(kind, kind), *cells, *([_interval(scores.AP_interval)] if with_interval else []))
    return table


def _scores_down(table: Table, report: CocoReport) -> Table:
    with_interval = any(scores.AP_interval for scores in report.scores.values())
    for kind in report.scores:
        table.add_column(_NAMES.get(kind, kind), justify="right", no_wrap=True)
        if with_interval:
            table.add_column("95% interval", justify="right", no_wrap=True)
    for name in report.names:
        cells: list[str] = []
        for scores in report.scores.values():
            drawn = hasattr(scores, f"{name}_interval")
            cells.append(percent(getattr(scores, name)))
            cells += [_interval(getattr(scores, f"{name}_interval")) if drawn else ""] if with_interval else []
        table.add_row(name, *cells)
    return table


def members_table(rows: Sequence[tuple[str, CocoReport]]) -> Table:
    """One row for each name and report: AP with its 95% interval where it has one, AP50 and APs, of boxes and of masks.

    It fits 80 columns: names are broken before figures are.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", min_width=12, overflow="fold")
    kinds = [kind for kind in _NAMES if any(kind in report.scores for _, report in rows)]
    drawn = any(scores.AP_interval for _, report in rows for scores in report.scores.values())
    for kind in kinds:
        for name in ("AP [95%]" if drawn else "AP", "AP50", "APs"):
            table.add_column(f"{_NAMES[kind]}\n{name}", justify="right", no_wrap=True)
    for name, report in rows:
        cells: list[str] = []
        for kind in kinds:
            scores = report.scores.get(kind, KindScores())
            interval = f" {_interval(scores.AP_interval)}" if scores.AP_interval else ""
            cells += [percent(scores.AP) + interval, percent(scores.AP50), percent(scores.APs)]
        table.add_row(escape(name), *cells)
    return table


def percent(score: float) -> str:
    """A score of 0..1 in percent; n/a for COCO's -1 and for NaN."""
    return "n/a" if score < 0 or math.isnan(score) else f"{100 * score:.1f}"


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "n/a"
    low, high = interval
    return f"[{percent(low)}, {percent(high)}]"  # a bracket before a digit is no rich markup
