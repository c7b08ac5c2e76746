"""Scores as tables for a terminal, in percent."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tis_ray.evaluation.coco import CocoReport, KindScores

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_NAMES = {"bbox": "box", "segm": "mask"}


def report_table(report: CocoReport) -> Table:
    """One row for boxes and one for masks; sizes are columns; n/a where there is nothing to score."""
    table = Table(title=f"{report.num_images} images, {report.num_objects} objects, {report.num_results} found")
    table.add_column("")
    with_interval = any(scores.AP_interval for scores in report.scores.values())
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    if with_interval:
        table.add_column("AP 95% interval", justify="right", no_wrap=True)
    for kind, scores in report.scores.items():
        cells = [_percent(getattr(scores, name)) for name in _COLUMNS]
        table.add_row(_NAMES.get(kind, kind), *cells, *([_interval(scores)] if with_interval else []))
    return table


def members_table(rows: Sequence[tuple[str, CocoReport]]) -> Table:
    """One row for each name and report: AP with its 95% interval, AP50 and APs, of boxes and of masks.

    It fits 80 columns: names are broken before figures are.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", min_width=12, overflow="fold")
    kinds = [kind for kind in _NAMES if any(kind in report.scores for _, report in rows)]
    for kind in kinds:
        for name in ("AP [95%]", "AP50", "APs"):
            table.add_column(f"{_NAMES[kind]}\n{name}", justify="right", no_wrap=True)
    for name, report in rows:
        cells: list[str] = []
        for kind in kinds:
            scores = report.scores.get(kind, KindScores())
            interval = f" {_interval(scores)}" if scores.AP_interval else ""
            cells += [_percent(scores.AP) + interval, _percent(scores.AP50), _percent(scores.APs)]
        table.add_row(escape(name), *cells)
    return table


def _percent(score: float) -> str:
    return "n/a" if score < 0 else f"{100 * score:.1f}"


def _interval(scores: KindScores) -> str:
    if scores.AP_interval is None:
        return "n/a"
    low, high = scores.AP_interval
    return f"[{_percent(low)}, {_percent(high)}]"  # a bracket before a digit is no rich markup
