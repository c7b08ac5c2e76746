"""Pictures of figures. The one module that knows matplotlib."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tis_ray.errors import ConfigError
from tis_ray.evaluation.anchor_recall import MATCH_IOU, Values, recall_by_size
from tis_ray.evaluation.reliability import Reliability

_PER_ROW = 4
_PANEL_IN = 3.4
_BINS_PER_OCTAVE = 2
_FEW = 10  # a share of fewer objects says little


def check_picture(path: Path, *, key: str) -> None:
    """Raise `ConfigError` for a file that no picture can be written to."""
    kinds = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in kinds:
        raise ConfigError(f"{key}: expected a file of {', '.join('.' + kind for kind in kinds)}; got {path}")


def reliability_diagrams(members: Mapping[str, tuple[Reliability, Reliability]], path: Path) -> None:
    """Write a picture with one panel for each of at least one member: hit rates over scores, before and after.

    Below each panel stands how many detections each bin of scores has. A calibrated member lies on the diagonal.
    """
    columns = min(_PER_ROW, len(members))
    rows = -(-len(members) // columns)
    figure = Figure(figsize=(_PANEL_IN * columns, 1.35 * _PANEL_IN * rows), layout="constrained")
    panels = figure.subfigures(rows, columns, squeeze=False).flat
    for panel, (name, reliabilities) in zip(panels, members.items(), strict=False):  # the last row may have room
        curves, bars = panel.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top = max(reliability.counts.max() for reliability in reliabilities)
        curves.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for label, reliability, color in zip(
            ("before", "after"), reliabilities, ("tab:orange", "tab:blue"), strict=True
        ):
            filled = reliability.counts > 0
            title = f"{label}, ECE {reliability.ece:.3f}"
            x, y = reliability.mean_scores[filled], reliability.hit_rates[filled]
            curves.plot(x, y, marker="o", markersize=4, color=color, label=title)
            bars.stairs(reliability.counts, np.linspace(0, 1, len(reliability.counts) + 1), color=color)
        curves.set_title(name, parse_math=False)
        curves.set(ylabel="share of hits", xlim=(0, 1), ylim=(0, 1))
        curves.legend(loc="upper left", fontsize="small")
        bars.set(xlabel="score", ylabel="detections", yscale="symlog", ylim=(0, max(1, 2 * top)))
    figure.savefig(path, dpi=120)


def anchor_recall_curves(scales: Values, ious: Mapping[str, Values], path: Path) -> None:
    """Write a picture of the recall of anchors by object size, and below it of how sizes are distributed.

    scales: sqrt(w * h) of at least one object in pixels (N,)
    ious:   by an anchor set's name, each object's IoU with its best anchor (N,)
    """
    figure = Figure(figsize=(2.2 * _PANEL_IN, 1.8 * _PANEL_IN), layout="constrained")
    curves, shares = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
    low, high = np.floor(np.log2([scales.min(), scales.max()]) * _BINS_PER_OCTAVE)
    edges = 2 ** (np.arange(low, high + 2) / _BINS_PER_OCTAVE)
    widths = np.linspace(3.5, 1.3, len(ious))  # where curves coincide, each is seen under the next
    for i, (name, best) in enumerate(ious.items()):
        recall = recall_by_size(scales, best, edges[1:-1])
        places, recalls = np.sqrt(edges[:-1] * edges[1:]), recall.recalls
        few = recall.counts < _FEW
        label = f"{name}: {(best >= MATCH_IOU).mean():.0%} of all"
        curves.plot(places[recall.counts > 0], recalls[recall.counts > 0], f"C{i}", linewidth=widths[i], label=label)
        curves.plot(places[~few], recalls[~few], f"C{i}o", markersize=5)
        curves.plot(places[few], recalls[few], f"C{i}o", markersize=5, markerfacecolor="white")
    curves.set(ylabel=f"share of objects with an anchor\nof IoU {MATCH_IOU} or more", ylim=(-0.03, 1.03))
    curves.set_title(f"hollow: fewer than {_FEW} objects", fontsize="small", loc="right", color="0.4")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    shares.plot(np.sort(scales), np.arange(1, len(scales) + 1) / len(scales), color="0.3")
    shares.set(xlabel="object size, sqrt(width x height) in px", ylabel="cumulative share", ylim=(0, 1))
    shares.set_xscale("log", base=2)
    shares.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for panel in (curves, shares):
        panel.grid(color="0.9")
    figure.savefig(path, dpi=120)
