"""The report about one set of results: a folder with `report.html`, its plots as PNG and all figures as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from tis_ray import whole_files
from tis_ray.evaluation.coco import CocoReport, evaluate
from tis_ray.evaluation.metrics import Report, metric_table
from tis_ray.explaining import pictures, sections
from tis_ray.explaining.explanation import Explanation, explain
from tis_ray.explaining.predictions import Predictions
from tis_ray.explaining.views import ViewRow, run_blocks, run_json, score_views
from tis_ray.explaining.words import count, interval, percent, share
from tis_ray.formats.dataset import GroundTruth
from tis_ray.reports.page import Block, Page, Pictures, Section, Table, Text, write

PAGE, FIGURES = "report.html", "figures.json"


def evaluation_report(
    folder: Path,
    dataset: GroundTruth,
    predictions: Predictions,
    reports: Sequence[tuple[str, Report]],
    *,
    score_each_view: bool = True,
    num_pictures: int = 6,
) -> Path:
    """Explain the results that `reports` score, by the names of their metrics, and write the report about them.

    The first report with COCO's scores of what is explained leads; where there is none, they are worked out. Scoring a
    view of a run takes about as long as scoring the run.
    """
    explanation = explain(dataset, predictions.results)
    leading = [one for _, one in reports if isinstance(one, CocoReport) and explanation.kind in one.scores]
    report = leading[0] if leading else evaluate(dataset, predictions.results)
    return write_report(
        folder,
        report,
        explanation,
        predictions,
        others=[(name, one) for name, one in reports if one is not report],
        views=score_views(predictions, dataset, explanation.kind) if score_each_view else (),
        num_pictures=num_pictures,
    )


def write_report(
    folder: Path,
    report: CocoReport,
    explanation: Explanation,
    predictions: Predictions,
    *,
    others: Sequence[tuple[str, Report]] = (),
    views: Sequence[ViewRow] = (),
    num_pictures: int = 6,
) -> Path:
    """Write the report, and return the page's path.

    report:       the scores
    explanation:  what explains them
    predictions:  where the results come from
    others:       further metrics by name
    views:        of a run, how each view does by itself
    num_pictures: so many of the worst images, half as many of the best, and so many mistakes with tiny objects
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        Section("Scores", [*sections.score_blocks(report), *_other_blocks(others)]),
        Section("What the errors cost", sections.error_blocks(explanation, folder)),
        Section("Sizes of objects", sections.size_blocks(explanation, folder)),
        Section("Classes", sections.class_blocks(explanation, report, folder)),
        Section("Scores taken at their word", sections.calibration_blocks(explanation, folder)),
        *_picture_sections(explanation, num_pictures),
    ]
    if predictions.run is not None:
        parts.append(Section("The run and its views", run_blocks(predictions, views, explanation.kind, folder)))
    page = Page(f"Evaluation of {predictions.name}", lead(report, explanation), parts)
    write(page, folder / PAGE)
    content: dict[str, Any] = {
        "predictions": str(predictions.path),
        "ground_truth": str(explanation.dataset.path),
        "scores": report.to_json(),
        "other_metrics": {name: other.to_json() for name, other in others},
        **explanation.to_json(report),
        **({"run": run_json(predictions, views)} if predictions.run is not None else {}),
    }
    whole_files.write(folder / FIGURES, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return folder / PAGE


def lead(report: CocoReport, one: Explanation) -> str:
    """The most important in words."""
    scores, objects = report[one.kind], int(one.num_objects().sum())
    about = f"{count(report.num_images, 'image')}, {count(objects, 'object')}, {report.num_results:,} found"
    if objects == 0:
        return f"{about}. Without objects there is nothing to score."
    if report.num_results == 0:
        return f"{about}. Nothing was found, so every object is missed."
    hits, false = int(one.seen.hits.sum()), int(one.seen.false.sum())
    within = f" (95% interval {interval(scores.AP_interval)})" if scores.AP_interval else ""
    small = f", of small objects {percent(scores.APs)}" if scores.APs >= 0 else ""
    return (
        f"{one.word.capitalize()} AP {percent(scores.AP)}{within}, AP50 {percent(scores.AP50)}{small}. {about}. "
        f"Shown with scores of {one.min_score:.2f} or more, {share(hits, objects)} objects are found, and "
        f"{share(false, hits + false)} of what is shown is wrong."
    )


def _other_blocks(others: Sequence[tuple[str, Report]]) -> list[Block]:
    """The tables of the terminal, on the page."""
    blocks: list[Block] = []
    for name, other in others:
        table = metric_table(name, other)
        columns = [[str(cell) for cell in column.cells] for column in table.columns]
        headers = [str(column.header) for column in table.columns]
        blocks.append(Table(headers, list(zip(*columns, strict=True)), caption=str(table.title)))
    return blocks


def _picture_sections(one: Explanation, number: int) -> list[Section]:
    if number == 0 or len(one.dataset) == 0:
        return []
    worst = one.images.worst_first()[:number].tolist()
    best = [i for i in one.images.best_first()[: number // 2].tolist() if i not in worst and one.images.hits[i]]
    shown_tiny, spent = pictures.within_budget(pictures.zoomed(one, number))
    shown_worst, spent = pictures.within_budget([half for i in worst for half in pictures.whole(one, i)], spent)
    shown_best, _ = pictures.within_budget([half for i in best for half in pictures.whole(one, i)], spent)
    told = (
        f"Blue is found and right, orange is missed on the left and false on the right, grey counts neither way. What "
        f"was found has a score of {one.min_score:.2f} or more; right is an overlap of 0.5 with an object of its "
        "class."
    )
    if not (shown_worst or shown_best or shown_tiny):
        return [Section("Pictures", [Text("No picture could be read, or none has a mistake to show.")])]
    parts = []
    if shown_tiny:
        tiny = f"Mistakes with objects below {pictures.TINY_PX} px, enlarged so that single pixels are seen. {told}"
        parts.append(Section("Tiny objects", [Text(tiny), Pictures(shown_tiny, pairs=True)]))
    if shown_worst:
        ranked = "The images of the lowest quality: how far hits overlap their objects, less what is missed and false."
        parts.append(Section("Worst images", [Text(f"{ranked} {told}"), Pictures(shown_worst, pairs=True)]))
    if shown_best:
        parts.append(Section("Best images", [Pictures(shown_best, pairs=True)]))
    return parts
