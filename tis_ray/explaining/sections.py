"""What the sections of a report say: words, tables and plots of one explanation."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.evaluation.coco import CocoReport, KindScores
from tis_ray.evaluation.confusion import BACKGROUND, MISSED
from tis_ray.evaluation.error_curves import CURVES
from tis_ray.evaluation.greedy import RECALLS
from tis_ray.explaining.explanation import Explanation
from tis_ray.explaining.words import count, interval, percent
from tis_ray.reports import plots
from tis_ray.reports.page import Block, Cell, Figure, Row, Table, Text

MOST_CLASSES = 40  # in one table; of more, the extremes
_EXTREMES = 12
_MOST_SQUARES = 12  # classes in the confusion matrix
_KINDS = {"bbox": "box", "segm": "mask"}
_SCORES = {
    "AP": "AP, the mean over overlaps 0.50 to 0.95",
    "AP50": "AP at an overlap of 0.50",
    "AP75": "AP at an overlap of 0.75",
    "APs": "AP of small objects, below 32 px",
    "APm": "AP of medium objects, 32 to 96 px",
    "APl": "AP of large objects, above 96 px",
    "APr": "AP of rare classes",
    "APc": "AP of common classes",
    "APf": "AP of frequent classes",
    "AR100": "recall with 100 found in an image",
    "AR300": "recall with 300 found in an image",
}
_STEPS = {
    "Loc": ("inexact places", "overlaps of 0.1 in place of 0.5 would do"),
    "Sim": ("similar classes", "objects of the same supercategory taken for each other"),
    "Oth": ("other classes", "objects of any other class taken for this one"),
    "BG": ("the background", "found where nothing is, or found twice"),
    "FN": ("missed objects", "never found, whatever the score"),
}


def score_blocks(report: CocoReport) -> list[Block]:
    """All scores of boxes and masks, with their intervals where they were asked for."""
    kinds = [kind for kind, scores in report.scores.items() if scores.AP >= 0] or list(report.scores)
    headers = ["score, in %", *[_KINDS[kind] for kind in kinds]]
    rows: list[list[Cell]] = [
        [_SCORES[name], *[_with_interval(report[kind], name) for kind in kinds]] for name in report.names
    ]
    by = "LVIS's rules" if report.metric == "lvis" else "COCO's rules"
    text = (
        f"By {by}; n/a where there is nothing to compute a score from. The size of an object is the root of its area."
    )
    return [Text(text), Table(headers, rows)]


def error_blocks(one: Explanation, folder: Path) -> list[Block]:
    """The seven curves, of all objects and of small ones, and what each kind of error costs."""
    numbers = one.curves.numbers()
    if np.isnan(numbers["C50"]):
        return [Text("There is no object, so there are no errors to tell apart.")]
    costs = {name: numbers[name] - numbers[before] for before, name in pairwise(CURVES[1:])}
    worst = max(costs, key=lambda name: costs[name])
    told = (
        "Seven curves of precision over recall, each of which forgives one more kind of error; what one adds to the "
        "one before is what errors of that kind cost. "
        f"Most, {percent(costs[worst])} points, is lost to {_STEPS[worst][0]}."
    )
    if not one.dataset.categories.supercategories:
        told += " The classes have no supercategories, so no class is similar to another."
    rows: list[tuple[Cell, ...]] = [
        ("C75", percent(numbers["C75"]), None, "an overlap of 0.75 is asked for"),
        ("C50", percent(numbers["C50"]), None, "an overlap of 0.5"),
    ]
    rows += [
        (f"{name}: {_STEPS[name][0]}", percent(numbers[name]), f"{100 * costs[name]:.1f}", _STEPS[name][1])
        for name in CURVES[2:]
    ]
    figures = [_curves_figure(one, size, folder) for size in ("all", "small") if size in one.curves.sizes]
    by_size = [(size, *[percent(one.curves.numbers(size=size)[name]) for name in CURVES]) for size in one.curves.sizes]
    return [
        Text(told),
        Row([figure for figure in figures if figure is not None]),
        Table(["curve", "area below it, %", "cost, %", "what it forgives"], rows),
        Table(["objects", *CURVES], by_size, folded="By size of the objects: small below 32 px, large above 96 px"),
    ]


def size_blocks(one: Explanation, folder: Path) -> list[Block]:
    """AP and recall of each bin of sizes."""
    bins = one.sizes
    if not bins.counts.any():
        return [Text("There is no object.")]
    tiny = int(bins.counts[: bins.names.index("16-32") + 1].sum()) if "16-32" in bins.names else 0
    told = f"{tiny / bins.counts.sum():.0%} of the objects are below 32 px. " if tiny else ""
    scored = {"AP": 100 * bins.ap, "AP50": 100 * bins.ap50, "recall at 0.50": 100 * bins.recall50}
    figures = [
        Figure(
            plots.columns(bins.names, scored, xlabel="size of the object, px", ylabel="%", ylim=(0, 100),
                          png=folder / "sizes.png"),
            "AP and recall of objects by size: " + "; ".join(
                f"{name} px: AP {percent(ap)}, recall {percent(recall)}"
                for name, ap, recall in zip(bins.names, bins.ap, bins.recall50, strict=True)),
            "AP and recall by the size of the objects.",
        ),
        Figure(
            plots.columns(bins.names, {"objects": bins.counts.astype(np.float64)}, xlabel="size of the object, px",
                          ylabel="objects", png=folder / "objects.png"),
            "Objects by size: " + ", ".join(f"{name} px: {n}" for name, n in zip(bins.names, bins.counts, strict=True)),
            "How many objects there are of each size.",
        ),
    ]  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (
            f"{name} px",
            int(bins.counts[i]),
            *[percent(float(column[i])) for column in (bins.ap, bins.ap50, bins.recall50)],
        )
        for i, name in enumerate(bins.names)
    ]
    headers = ["size", "objects", "AP", "AP50", "recall at 0.50"]
    text = f"{told}A bin's AP is the mean of the classes that have objects of that size, in %."
    return [Text(text), Row(figures), Table(headers, rows)]


def calibration_blocks(one: Explanation, folder: Path) -> list[Block]:
    """How often what was found with a score is right."""
    trusted = one.reliability
    if not trusted.counts.any():
        return [Text("Nothing was found that could be right or wrong.")]
    filled = trusted.counts > 0
    x, y = trusted.mean_scores[filled], trusted.hit_rates[filled]
    over = float(((trusted.mean_scores - trusted.hit_rates)[filled] * trusted.counts[filled]).sum())
    told = (
        f"Taken at their word, scores are {'too high' if over > 0 else 'too low'} on the whole: they differ from the "
        f"share of hits by {100 * trusted.ece:.1f} points on average (expected calibration error). "
        "The command tis-ray calibrate mends that."
    )
    if trusted.ece < 0.02:
        told = f"Scores are what they say; from the share of hits they differ by {100 * trusted.ece:.1f} points."
    edges = np.linspace(0, 1, len(trusted.counts) + 1)
    figures = [
        Figure(
            plots.lines({"found": (x, y), "as it should be": ([0, 1], [0, 1])}, xlabel="score", ylabel="share of hits",
                        markers=True, ylim=(0, 1), png=folder / "calibration.png"),
            "Share of hits by score: " + ", ".join(f"{a:.2f}: {b:.2f}" for a, b in zip(x, y, strict=True)),
            "The share of hits, at an overlap of 0.5, of what has a score.",
        ),
        Figure(
            plots.lines({"found": (edges.repeat(2)[1:-1], trusted.counts.repeat(2).astype(np.float64))}, xlabel="score",
                        ylabel="instances", log_y=True, png=folder / "scores.png"),
            "How many instances were found with each score",
            "How many were found with each score.",
        ),
    ]  # fmt: skip
    return [Text(told), Row(figures)]


def class_blocks(one: Explanation, report: CocoReport, folder: Path) -> list[Block]:
    """AP and counts of each class, and which classes are taken for which."""
    rows = [(row["class"], percent(row["AP"]), row["objects"], row["hits"], row["missed"], row["false"])
            for row in one.class_rows(report)]  # fmt: skip
    headers = ["class", "AP, %", "objects", "found", "missed", "false"]
    told = f"Counts are of what has a score of {one.min_score:.2f} or more, at an overlap of 0.5."
    blocks: list[Block] = [Text(told), *_class_tables(headers, rows)]
    return [*blocks, *_confusion_blocks(one, folder)]


def _class_tables(headers: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Block]:
    """All classes, or of very many the best, the worst and the most frequent."""
    scored = sorted([row for row in rows if row[2]], key=lambda row: -row[2])
    without = [row for row in rows if not row[2]]
    absent = f"{count(len(without), 'class', 'classes')} of {len(rows):,} have no object here."
    blocks: list[Block] = [Text(absent)] if without else []
    if not scored:
        return blocks
    if len(scored) <= MOST_CLASSES:
        return [*blocks, Table(headers, scored)]
    by_score = sorted(scored, key=lambda row: (float(row[1]) if row[1] != "n/a" else -1.0, -row[2]))
    frequent = f"The {_EXTREMES} most frequent classes of {len(scored):,}"
    return [
        *blocks,
        Table(headers, scored[:_EXTREMES], caption=frequent),
        Table(headers, by_score[:_EXTREMES], folded=f"The {_EXTREMES} classes with the lowest AP"),
        Table(headers, by_score[::-1][:_EXTREMES], folded=f"The {_EXTREMES} classes with the highest AP"),
    ]


def _confusion_blocks(one: Explanation, folder: Path) -> list[Block]:
    counts, names = one.confusion.counts, one.dataset.categories.names
    if not counts.any():
        return []
    swapped = counts[:-1, :-1].copy()
    np.fill_diagonal(swapped, 0)
    weight = swapped.sum(axis=0) + swapped.sum(axis=1)
    there = np.flatnonzero(counts[:-1, :].sum(axis=1) + counts[:, :-1].sum(axis=0))
    chosen = np.sort(there[np.lexsort((-one.num_objects()[there], -weight[there]))][:_MOST_SQUARES])
    few = f", of the {len(chosen)} classes that are confused most" if len(there) > len(chosen) else ""
    index = np.append(chosen, len(names))
    shares = one.confusion.shares[np.ix_(index, index)]
    picked = [names[i] for i in chosen.tolist()]
    figure = Figure(
        plots.matrix(shares, [*picked, BACKGROUND], [*picked, MISSED], xlabel="found as", ylabel="what is there",
                     png=folder / "confusion.png"),
        f"Confusion matrix: {_confused_words(swapped, names) or 'no class is taken for another'}",
        f"What objects are found as, in % of each row{few}. Overlap 0.5, whatever the class.",
    )  # fmt: skip
    pairs = np.argwhere(swapped > 0)
    pairs = pairs[np.argsort(-swapped[tuple(pairs.T)], kind="stable")][:20]
    rows = [
        (names[i], names[j], int(swapped[i, j]), percent(float(one.confusion.shares[i, j]))) for i, j in pairs.tolist()
    ]
    table = Table(["what is there", "found as", "times", "% of the objects"], rows, folded="The most frequent mix-ups")
    return [figure, *([table] if rows else [])]


def _confused_words(swapped: Any, names: Sequence[str]) -> str:
    pairs = np.argwhere(swapped > 0)
    pairs = pairs[np.argsort(-swapped[tuple(pairs.T)], kind="stable")][:3]
    return ", ".join(f"{names[i]} found as {names[j]} {swapped[i, j]} times" for i, j in pairs.tolist())


def _curves_figure(one: Explanation, size: str, folder: Path) -> Figure | None:
    curves, numbers = one.curves.curves(size=size), one.curves.numbers(size=size)
    if np.isnan(curves).any():
        return None
    named = {f"{name} {percent(numbers[name])}": curves[i] for i, name in enumerate(CURVES)}
    of = "all objects" if size == "all" else f"{size} objects"
    alt = f"Curves of precision over recall of {of}. Areas: " + ", ".join(named)
    svg = plots.nested(named, RECALLS, xlabel="recall", ylabel="precision", png=folder / f"errors_{size}.png")
    return Figure(svg, alt, f"{of.capitalize()}; the areas below the curves in %.")


def _with_interval(scores: KindScores, name: str) -> str:
    pair, score = getattr(scores, f"{name}_interval", None), percent(getattr(scores, name))
    return f"{score} ({interval(pair)})" if pair else score
