"""Pictures of figures. The one module that knows matplotlib."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tis_ray.errors import ConfigError
from tis_ray.evaluation.reliability import Reliability

_PER_ROW = 4
_PANEL_IN = 3.4


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
