"""The page about a run: what it learned, how fast, and what it finds in some pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.errors import ConfigError
from tis_ray.reports import plots
from tis_ray.reports.page import Block, Cell, Figure, Listing, Page, Picture, Pictures, Row, Section, Table, Text, write
from tis_ray.training import run_folder
from tis_ray.training.history import History, Numbers, Series, read_history

REPORT = "report.html"
_POINTS = 200  # of a curve
_SCORES = {
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "box_ap_small": "box AP, small objects",
    "mask_ap_small": "mask AP, small objects",
    "box_ap_rare": "box AP, rare classes",
    "box_ap_common": "box AP, common classes",
    "box_ap_frequent": "box AP, frequent classes",
    "mask_ap_rare": "mask AP, rare classes",
    "mask_ap_common": "mask AP, common classes",
    "mask_ap_frequent": "mask AP, frequent classes",
}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` of a run that has finished or still goes on, and return its path.

    Raises `ConfigError` for a folder that holds no run.
    """
    recipe = run_dir / run_folder.RECIPE
    if not recipe.is_file():
        raise ConfigError(f"{run_dir}: expected the folder of a run, with its {run_folder.RECIPE}; there is none")
    page = page_of(run_dir.resolve().name, read_history(run_dir), _metrics(run_dir), recipe.read_text(),
                   finished=run_folder.finished(run_dir))  # fmt: skip
    write(page, run_dir / REPORT)
    return run_dir / REPORT


def report_line(run_dir: Path) -> str:
    """Write the report of a run that has ended, and a line that says where, or why there is none."""
    try:
        return f"report: {write_report(run_dir)}"
    except Exception as error:  # the run is worth more than its report
        return f"{run_dir.name}: its report cannot be written ({type(error).__name__}: {error})"


def page_of(name: str, history: History, metrics: Mapping[str, Any], recipe: str, *, finished: bool) -> Page:
    """The page about a run whose last checkpoint has these `metrics`."""
    sections = [
        Section("Scores", _score_blocks(history, metrics)),
        Section("Losses", _loss_blocks(history)),
        Section("Speed", _speed_blocks(history)),
    ]
    if history.pictures:
        about = (
            "Validation images: what is there on the left, what was found with a score of 0.3 or more on the right, "
            f"after step {history.pictures_step:,}."
        )
        names = {name.removeprefix("samples/"): image for name, image in sorted(history.pictures.items())}
        shown = [Picture(image, f"{name}, what is there and what was found", name) for name, image in names.items()]
        sections.append(Section("What it finds", [Text(about), Pictures(shown, wide=True)]))
    blocks: list[Block] = [Table(["", ""], [(key, text) for key, text in sorted(history.texts.items())])]
    sections.append(
        Section("How it was trained", [*(blocks if history.texts else []), Listing(recipe, folded="The whole recipe")])
    )
    return Page(f"Training run {name}", _lead(history, metrics, finished=finished), sections)


def binned(series: Series, most: int = _POINTS) -> tuple[Numbers, Numbers, int]:
    """At most `most` points: the steps that each ends at, the means of as many values each, and how many that is."""
    size = max(1, -(-len(series) // most))
    starts = np.arange(0, len(series), size)
    ends = np.minimum(starts + size, len(series))
    return series.steps[ends - 1], np.add.reduceat(series.values, starts) / (ends - starts), size


def _lead(history: History, metrics: Mapping[str, Any], *, finished: bool) -> str:
    scores = [f"{_SCORES[key]} {100 * metrics[key]:.1f}" for key in ("box_ap", "mask_ap") if key in metrics]
    epochs, step = metrics.get("epoch", 0), metrics.get("step", 0)
    state = "Finished" if finished else "Not finished: the last checkpoint is"
    words = f"{state} after {epochs:,} epoch{'s' if epochs != 1 else ''} and {step:,} steps"
    return f"{words}{', with ' + ' and '.join(scores) if scores else ''}. {_duration(history)}".strip()


def _duration(history: History) -> str:
    total = history.series.get("loss/total")
    if total is None or len(total) < 2:
        return ""
    gaps = np.diff(np.sort(total.times))
    minutes = float(gaps[gaps < max(600.0, 20 * np.median(gaps))].sum()) / 60  # longer ones: the run stood still
    return f"It took {minutes / 60:.1f} hours." if minutes >= 90 else f"It took {minutes:.1f} minutes."


def _score_blocks(history: History, metrics: Mapping[str, Any]) -> list[Block]:
    known = {key: title for key, title in _SCORES.items() if key in metrics or f"val/{key}" in history.series}
    if not known:
        return [Text("There was no validation: the recipe has no data.val, or it was not due yet.")]
    rows: list[tuple[Cell, ...]] = []
    for key, title in known.items():
        curve = history.series.get(f"val/{key}")
        best = None if curve is None else int(np.argmax(curve.values))
        last = metrics.get(key, None if curve is None else float(curve.values[-1]))
        rows.append((title, _percent(last), None if best is None else _percent(curve.values[best]),
                     None if best is None else int(curve.steps[best])))  # fmt: skip
    table = Table(["score, in %", "last", "best", "at step"], rows)
    whole = [key for key in known if key in ("box_ap", "mask_ap")]
    groups = {"whole": whole}
    for kind in ("box", "mask"):
        groups[f"of a kind, {kind}"] = [key for key in known if key not in whole and key.startswith(kind)]
    figures = []
    for group, keys in groups.items():
        curves = {_SCORES[key]: history.series[f"val/{key}"] for key in keys if f"val/{key}" in history.series}
        if curves:
            svg = plots.lines(
                {title: (curve.steps, 100 * curve.values) for title, curve in curves.items()},
                xlabel="step", ylabel="AP in %", markers=True, ylim=(0, None),
            )  # fmt: skip
            figures.append(Figure(svg, f"AP over steps, {group}: {', '.join(curves)}"))
    return [table, *([Row(figures)] if figures else [])]


def _loss_blocks(history: History) -> list[Block]:
    losses = history.group("loss/")
    if not losses:
        return [Text("No step was written.")]
    total = losses.pop("total", None)
    figures = []
    for title, curves in (("total", {"total": total} if total is not None else {}), ("terms", losses)):
        if curves:
            points = {name: binned(curve) for name, curve in curves.items()}
            size = max(size for _, _, size in points.values())
            svg = plots.lines({name: (x, y) for name, (x, y, _) in points.items()}, xlabel="step", ylabel="loss",
                              ylim=(0, None))  # fmt: skip
            told = f"Each point is the mean of {size:,} steps." if size > 1 else ""
            figures.append(Figure(svg, f"Loss over steps, {title}: {', '.join(curves)}", told))
    if (rate := history.series.get("lr")) is not None:
        svg = plots.lines({"lr": binned(rate)[:2]}, xlabel="step", ylabel="learning rate", ylim=(0, None))
        figures.append(Figure(svg, "Learning rate over steps"))
    rows = [
        (name, float(curve.values[0]), float(curve.values[-_tail(curve) :].mean()))
        for name, curve in ([("total", total)] if total is not None else []) + sorted(losses.items())
    ]
    return [Row(figures), Table(["loss", "first step", "mean of the last tenth"], rows)]


def _speed_blocks(history: History) -> list[Block]:
    speed, waited = history.series.get("speed/images_per_s"), history.series.get("speed/data_wait_s")
    if speed is None or waited is None or not len(speed):
        return [Text("No step was written.")]
    share = _wait_share(history)
    median = float(np.median(speed.values))
    svg = plots.lines({"images/s": binned(speed)[:2]}, xlabel="step", ylabel="images/s of a worker", ylim=(0, None))
    figures = [Figure(svg, "Images per second over steps")]
    text = f"{median:.1f} images/s of each worker in the median; {waited.values.sum():,.0f} s waited for data in all"
    if share is not None:
        svg = plots.lines({"waiting": (binned(share)[0], 100 * binned(share)[1])}, xlabel="step",
                          ylabel="% of a step", ylim=(0, 100))  # fmt: skip
        figures.append(Figure(svg, "Share of each step in which it waited for data, over steps"))
        text += f", {share.values.mean():.0%} of each step on average"
    return [Text(f"{text}."), Row(figures)]


def _wait_share(history: History) -> Series | None:
    """The share of each step in which no batch was ready, where the run has told how long steps took."""
    waited, seconds = history.series["speed/data_wait_s"], history.series.get("speed/step_s")
    if seconds is None or not np.array_equal(seconds.steps, waited.steps):
        return None
    return Series(waited.steps, np.clip(waited.values / np.maximum(seconds.values, 1e-9), 0, 1), waited.times)


def _metrics(run_dir: Path) -> dict[str, Any]:
    """Of the finished detector, else of the newest checkpoint."""
    found = run_folder.newest(run_dir)
    for folder in [run_dir / run_folder.FINISHED, *([found[0]] if found else [])]:
        try:
            return dict(json.loads((folder / "metrics.json").read_text()))
        except (OSError, ValueError):
            continue
    return {}


def _tail(series: Series) -> int:
    return max(1, len(series) // 10)


def _percent(score: float | None) -> str | None:
    return None if score is None else f"{100 * score:.1f}"
