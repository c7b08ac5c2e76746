"""Ablations as a table for a terminal, in percent."""

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tis_ray.evaluation.table import percent
from tis_ray.tuning.ablation import Ablation, change

_NAMES = {"bbox": "box", "segm": "mask"}


def ablation_table(ablation: Ablation) -> Table:
    """One row for each variant: how many views remain, AP of boxes and of masks, how much more that is, and APs."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("views", justify="right", no_wrap=True)
    for kind in ablation.kinds:
        for heading in (f"{_NAMES[kind]} AP", "change", "APs"):
            table.add_column(heading, justify="right", no_wrap=True)
    whole = ablation.rows[0][1]
    for variant, report in ablation.rows:
        cells = [str(len(variant.views))]
        for kind in ablation.kinds:
            difference = change(whole, report, kind) if variant.kind else None
            cells += [percent(report[kind].AP), "" if difference is None else f"{100 * difference:+z.1f}"]
            cells.append(percent(report[kind].APs))
        table.add_row(escape(variant.name), *cells)
    return table
