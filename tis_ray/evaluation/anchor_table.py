"""Objects' scales and the recall of anchors as lines and tables for a terminal."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tis_ray.evaluation.anchor_recall import EDGES_PX, MATCH_IOU, RecallBySize, Values, recall_by_size

_SHARES_TO_PX = (8, 16, 32, 96)


def scales_line(scales: Values) -> str:
    """Which share of objects with these scales (N,), N > 0, is at most 8, 16, 32 and 96 px; the extremes."""
    shares = ", ".join(f"F({side}) = {(scales <= side).mean():.1%}" for side in _SHARES_TO_PX)
    return f"{shares}; smallest {scales.min():.4g} px, largest {scales.max():.4g} px"


def recall_table(scales: Values, ious: Mapping[str, Values], *, edges: Sequence[float] = EDGES_PX) -> Table:
    """A column for each anchor set, a row for each bin between `edges` and one for all: recall and mean IoU.

    scales: sqrt(w * h) of the objects in pixels (N,)
    ious:   by an anchor set's name, each object's IoU with its best anchor (N,)
    """
    title = f"% with an anchor of IoU {MATCH_IOU} or more; mean best IoU; by size in px"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("size", no_wrap=True)
    table.add_column("objects", justify="right", no_wrap=True)
    for name in ious:
        table.add_column(f"{escape(name)}\n%  IoU", justify="right", no_wrap=True)
    labels = [f"< {edges[0]:g}", *(f"{low:g}-{high:g}" for low, high in pairwise(edges)), f">= {edges[-1]:g}"]
    _add_rows(table, labels, [recall_by_size(scales, best, edges) for best in ious.values()])
    table.add_section()
    _add_rows(table, ["all"], [recall_by_size(scales, best, ()) for best in ious.values()])
    return table


def _add_rows(table: Table, labels: Sequence[str], recalls: Sequence[RecallBySize]) -> None:
    for i, label in enumerate(labels):
        count = recalls[0].counts[i]
        cells = (f"{100 * one.recalls[i]:.1f} {one.mean_ious[i]:.2f}" if count else "n/a" for one in recalls)
        table.add_row(label, str(count), *cells)
