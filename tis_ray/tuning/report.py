"""What a search found as a page: scores, what was changed, what mattered, and how the trials went."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from tis_ray.config import FusionSection
from tis_ray.evaluation.coco import CocoReport, KindScores
from tis_ray.evaluation.table import percent
from tis_ray.reports import page, plots
from tis_ray.tuning.run import Tuned
from tis_ray.tuning.writing import changes

_KINDS = {"bbox": "box", "segm": "mask"}
_SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def write_report(tuned: Tuned, before: FusionSection, path: Path, *, lead: str) -> None:
    """Write the page, whole or not at all; `lead` is its first paragraph."""
    page.write(
        page.Page("Tuning", lead, [_scores(tuned), _changes(tuned, before), _mattered(tuned), _trials(tuned)]), path
    )


def rows_of(tuned: Tuned) -> list[tuple[str, CocoReport]]:
    """The reports by name: each fold as it was and tuned without it, then all images, on which the search was."""
    rows = []
    for number, fold in enumerate(tuned.folds, start=1):
        rows += [(f"fold {number}, as it was", fold.before), (f"fold {number}, tuned without it", fold.after)]
    return [*rows, ("all, as it was", tuned.baseline), ("all, tuned on them", tuned.on_all)]


def _scores(tuned: Tuned) -> page.Section:
    text = (
        "In percent. A fold is scored by the setting that was chosen without it. The written setting was chosen on all "
        "images, whose scores flatter it."
    )
    named = rows_of(tuned)
    tables = [
        page.Table([kind_name, *_SCORES], [_row(name, report.scores[kind]) for name, report in named])
        for kind, kind_name in _KINDS.items()
        if all(kind in report.scores for _, report in named)
    ]
    return page.Section("Scores", [page.Text(text), *tables])


def _row(name: str, scores: KindScores) -> list[page.Cell]:
    return [name, *(percent(getattr(scores, score)) for score in _SCORES)]


def _changes(tuned: Tuned, before: FusionSection) -> page.Section:
    rows = changes(before, tuned.ensemble.fusion, most=None)
    if not rows:
        return page.Section("What was changed", [page.Text("Nothing: no setting was better on held-out images.")])
    return page.Section("What was changed", [page.Table(["key of fusion", "as it was", "tuned"], rows)])


def _mattered(tuned: Tuned) -> page.Section:
    blocks: list[page.Block] = []
    if tuned.worth:
        worth = dict(sorted(tuned.worth.items(), key=lambda item: -item[1]))
        lost = {part: round(100 * value, 2) for part, value in worth.items()}
        svg = plots.bars(lost, xlabel=f"{tuned.metric.name} lost where the part is put back, in percent")
        blocks.append(page.Figure(svg, "What each changed part is worth", "On all images; below 0 it had better not."))
    if tuned.importances:
        shares = dict(sorted(tuned.importances.items(), key=lambda item: -item[1]))
        svg = plots.bars(
            {part: round(100 * share, 1) for part, share in shares.items()}, xlabel="importance in percent"
        )
        blocks.append(page.Figure(svg, "Importance of each part", "What tells good trials from others (PED-ANOVA)."))
    return page.Section("What mattered", blocks or [page.Text("Too few trials to tell.")])


def _trials(tuned: Tuned) -> page.Section:
    series: dict[str, plots.Series] = {}
    for number, fold in enumerate(tuned.folds, start=1):
        if fold.tried:
            scores = [100 * tried.score for tried in fold.tried]
            series[f"without fold {number}, best so far"] = (range(1, len(scores) + 1), list(accumulate(scores, max)))
            series[f"without fold {number}, each"] = (range(1, len(scores) + 1), scores)
    if not series:
        return page.Section("Trials", [page.Text("None.")])
    svg = plots.lines(series, xlabel="trial", ylabel=f"{tuned.metric.name} in percent", ylim=(_lowest(series), None))
    caption = "Each search on its own part of the images; the first trial is the ensemble as it was."
    return page.Section("Trials", [page.Figure(svg, "Scores of the trials", caption)])


def _lowest(series: "dict[str, plots.Series]") -> float:
    """Trials far below the first would squeeze the others together."""
    firsts: Sequence[float] = [float(scores[0]) for _, scores in series.values()]
    worst = min(float(min(scores)) for _, scores in series.values())
    return max(worst, 0.5 * min(firsts))
