"""Plots of the reports, in one style, as SVG that takes its colours of text and lines from the page around it.

Those with `png` write the same plot there, too, dark on white, for slides and papers.
"""

import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Values = NDArray[np.float64]
Series = tuple[Sequence[float] | Values, Sequence[float] | Values]  # x and y, of one length

# Okabe and Ito's colours, told apart with every kind of colour vision, those first that show on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_INK, _GRID = "#010203", "#040506"  # stand for the page's own
_ON_PAPER = {_INK: "#1d2024", _GRID: "#d9dcde"}
_PNG_DPI = 160
_SIZE_IN = (4.3, 2.9)
_LEGEND_LETTERS = 62  # of a row, with eight for each line before a name
_BAR_IN = 0.2
_LINE, _NAME = 0.06, 0.35  # height and width of a name in a plot of points, shares of it
_TICK_LETTERS = 30  # below columns, side by side
_STYLE: Any = {
    "svg.hashsalt": "tis-ray",  # the same plot is the same text
    "svg.fonttype": "none",  # text stays text: small, sharp, and in the page's font
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], _INK),
}


def lines(
    series: Mapping[str, Series],
    *,
    xlabel: str,
    ylabel: str,
    markers: bool = False,
    log_y: bool = False,
    ylim: tuple[float | None, float | None] | None = None,
    png: Path | None = None,
) -> str:
    """Curves by name, in the order given; a legend where there are several. Points that are not finite are gaps."""

    def draw(axes: Axes) -> None:
        for name, (x, y) in series.items():
            axes.plot(np.asarray(x), np.asarray(y), marker="o" if markers else None, markersize=4, label=name)
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log_y else "linear")
        if log_y:
            axes.yaxis.set_major_formatter(_plain)
            axes.yaxis.set_minor_formatter(_nothing)
        if ylim is not None:
            axes.set_ylim(*ylim)

    return _svg(draw, legend=len(series) > 1, png=png)


def nested(curves: Mapping[str, Values], x: Values, *, xlabel: str, ylabel: str, png: Path | None = None) -> str:
    """Curves within 0..1 over one `x`, each at or above the one before; what each adds to it is filled."""

    def draw(axes: Axes) -> None:
        below = np.zeros(len(x))
        for i, (name, y) in enumerate(curves.items()):
            colour = COLOURS[i % len(COLOURS)]
            axes.fill_between(x, below, y, color=colour, alpha=0.75, linewidth=0, label=name)
            below = np.maximum(below, y)
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1))

    return _svg(draw, legend=len(curves) > 1, size_in=(_SIZE_IN[0], 1.25 * _SIZE_IN[1]), png=png)


def columns(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float] | Values],
    *,
    xlabel: str,
    ylabel: str,
    ylim: tuple[float | None, float | None] | None = None,
    log_y: bool = False,
    png: Path | None = None,
) -> str:
    """For each of `groups` one column of each series, side by side; none where a value is not finite."""
    width = 0.82 / max(len(series), 1)

    def draw(axes: Axes) -> None:
        places = np.arange(len(groups))
        for i, (name, values) in enumerate(series.items()):
            axes.bar(places + (i - (len(series) - 1) / 2) * width, np.asarray(values, dtype=np.float64), width * 0.94,
                     color=COLOURS[i % len(COLOURS)], label=name)  # fmt: skip
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(places, list(groups), **(slanted if sum(map(len, groups)) > _TICK_LETTERS else {}))
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="symlog" if log_y else "linear")
        axes.grid(visible=False, axis="x")
        if log_y:
            axes.yaxis.set_major_formatter(_plain)
        if ylim is not None:
            axes.set_ylim(*ylim)

    return _svg(draw, legend=len(series) > 1, png=png)


def matrix(
    values: Values, rows: Sequence[str], names: Sequence[str], *, xlabel: str, ylabel: str, png: Path | None = None
) -> str:
    """Shares in 0..1 as squares (R, C), the stronger the larger, with the share in % in each; NaN stays blank."""
    side = 0.42

    def draw(axes: Axes) -> None:
        axes.grid(visible=False)
        for i, j in zip(*np.nonzero(np.nan_to_num(values) > 0), strict=True):
            share = float(values[i, j])
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=COLOURS[0], alpha=share, linewidth=0))
            text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if share > 0.6 else None)
        axes.set_xticks(range(len(names)), list(names), rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.5, len(names) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)

    return _svg(draw, size_in=(max(_SIZE_IN[0], 1.3 + side * len(names)), 1.2 + side * len(rows)), png=png)


def points(places: Mapping[str, tuple[float, float]], *, xlabel: str, ylabel: str, png: Path | None = None) -> str:
    """A point (x, y) for each name, with the name beside it; both axes begin at 0."""

    def draw(axes: Axes) -> None:
        width, height = (max(place[i] for place in places.values()) or 1.0 for i in (0, 1))
        told: list[tuple[float, float]] = []  # where names begin and stand, in shares of the axes
        for name, (x, y) in places.items():
            axes.plot([x], [y], "o", color=COLOURS[0], markersize=5)
            left, up = x > width / 2, y / height
            start = x / width - (_NAME if left else 0)
            while any(abs(start - other) < _NAME and abs(up - line) < 0.99 * _LINE for other, line in told):
                up -= _LINE
            told.append((start, up))
            axes.annotate(name, (x, y), (x + (-0.02 if left else 0.02) * width, up * height), fontsize=8, va="center",
                          ha="right" if left else "left")  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)

    return _svg(draw, png=png)


def differences(
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float] | None],
    *,
    xlabel: str,
    png: Path | None = None,
) -> str:
    """One point for each name, the first on top, its interval as a line through it, and where nothing differs."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOURS[6], linewidth=1)
        for i, (name, value) in enumerate(values.items()):
            interval = intervals.get(name)
            beyond = interval is not None and (interval[0] > 0 or interval[1] < 0)
            colour = (COLOURS[2] if value > 0 else COLOURS[1]) if beyond else COLOURS[6]
            if interval is not None:
                axes.plot(interval, (i, i), color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot([value], [i], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(values)), list(values))
        axes.set(xlabel=xlabel, ylim=(len(values) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")

    return _svg(draw, size_in=(_SIZE_IN[0], 0.7 + 1.15 * _BAR_IN * max(3, len(values))), png=png)


def cumulative(values: Values, *, xlabel: str, ylabel: str, marks: Sequence[float] = ()) -> str:
    """The share of `values` (N,), all positive, that are at most x, over x on a logarithmic axis.

    At each of `marks` stands how large that share is.
    """
    x, shares = steps_of(values)

    def draw(axes: Axes) -> None:
        axes.step(x, shares, where="post")
        for mark in marks:
            share = share_below(values, mark)
            axes.axvline(mark, color=COLOURS[1], linewidth=0.9, linestyle=(0, (4, 3)))
            axes.plot([mark], [share], "o", color=COLOURS[1], markersize=4)
            low = share < 0.15  # then the curve is to the right of the point
            axes.annotate(
                f"{mark:g}: {share:.0%}",
                (mark, share),
                (-5, 4) if low else (5, -3),
                textcoords="offset points",
                va="bottom" if low else "top",
                ha="right" if low else "left",
            )
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.02))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(_plain)
        axes.yaxis.set_major_formatter(_percent)

    return _svg(draw)


def bars(values: Mapping[str, float], *, xlabel: str, log: bool = False) -> str:
    """One horizontal bar for each name, the first on top, its value beside it."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(values))
        held = axes.barh(places, list(values.values()), height=0.72, color=COLOURS[0])
        axes.bar_label(held, [f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in values.values()],
                       padding=3, fontsize=8)  # fmt: skip
        axes.set_yticks(places, list(values))
        axes.set(xlabel=xlabel, xscale="log" if log else "linear", ylim=(len(values) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.14)
        if log:
            axes.set_xlim(left=0.7)
            axes.xaxis.set_major_formatter(_plain)

    return _svg(draw, size_in=(_SIZE_IN[0], 0.7 + _BAR_IN * max(3, len(values))))


def histogram(values: Values, edges: Sequence[float] | Values, *, xlabel: str, ylabel: str, log_x: bool = False) -> str:
    """How many of `values` (N,) lie between neighbouring `edges`."""

    def draw(axes: Axes) -> None:
        axes.hist(values, list(edges), color=COLOURS[0], rwidth=1 if log_x else 0.92)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(visible=False, axis="x")
        if log_x:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(_plain)

    return _svg(draw)


def share_below(values: Values, mark: float) -> float:
    """Which share of `values` (N,) is at most `mark`: F of the scale CDF (TIS, WAD 2018); 0 where there are none."""
    return float(np.mean(values <= mark)) if len(values) else 0.0


def steps_of(values: Values, *, most: int = 400) -> tuple[Values, Values]:
    """Where the cumulative share of `values` (N,) rises, and to what: at most about `most` points of it."""
    rising = np.sort(np.asarray(values, dtype=np.float64))
    chosen = np.unique(np.linspace(0, max(len(rising) - 1, 0), min(most, len(rising))).astype(np.int64))
    return rising[chosen], np.searchsorted(rising, rising[chosen], side="right") / max(len(rising), 1)


def _plain(value: float, _: float) -> str:
    return f"{value:g}" if value < 1e4 else f"{value / 1000:g}k"


def _percent(value: float, _: float) -> str:
    return f"{value:.0%}"


def _nothing(value: float, _: float) -> str:  # noqa: ARG001
    return ""


def _svg(
    draw: Callable[[Axes], None],
    *,
    legend: bool = False,
    size_in: tuple[float, float] = _SIZE_IN,
    png: Path | None = None,
) -> str:
    """The SVG element alone, with names that no other plot of a page has."""
    if png is not None:
        style = {key: _ON_PAPER.get(value, value) if isinstance(value, str) else value for key, value in _STYLE.items()}
        with mpl.rc_context(style):
            _figure(draw, legend, size_in).savefig(png, dpi=_PNG_DPI, facecolor="white")
    with mpl.rc_context(_STYLE):
        figure = _figure(draw, legend, size_in)
        held = io.StringIO()
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(held, format="svg", transparent=True, metadata=nothing)
    text = held.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    return _own_names(re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL))


def _figure(draw: Callable[[Axes], None], legend: bool, size_in: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size_in, layout="constrained")
    draw(figure.subplots())
    if legend:
        longest = max(len(label) for label in figure.axes[0].get_legend_handles_labels()[1])
        figure.legend(loc="outside upper center", ncols=max(1, min(3, _LEGEND_LETTERS // (longest + 8))))
    return figure


def _own_names(svg: str) -> str:
    """Ids that are referred to, each with a mark of this plot before it; the others are dropped."""
    used, mark = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg)), f"{zlib.crc32(svg.encode()):08x}"
    svg = re.sub(r' id="([^"]*)"', lambda match: f' id="{mark}-{match[1]}"' if match[1] in used else "", svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{mark}-", svg)
