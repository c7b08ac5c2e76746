"""Commands that judge results: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from tis_ray.cli.shared import PLACE, SkipBad, check_folder, check_out, console, data_place, say, tell_bad
from tis_ray.errors import ConfigError


def evaluate(
    ground_truth: Annotated[
        str, typer.Option(metavar=PLACE, help="COCO JSON with annotations, or folder of WAD label images.")
    ],
    predictions: Annotated[Path, typer.Option(help="COCO results JSON, or the folder of a batch run.")],
    image_folder: Annotated[
        Path | None, typer.Option(help="For a folder of labels: what was predicted, a folder, .txt or .json of images.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric: coco, lvis, wad-kaggle, wad-coco or proposals; may be repeated. By default coco or lvis, as "
            "the ground truth is annotated."
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the images for 95% intervals; 0 for none.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write: report.html, which explains the scores, its plots as PNG, and figures.json."
        ),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option(
            min=0, help="Worst images, and as many mistakes with tiny objects, shown by the report. Default: 6."
        ),
    ] = None,
    views: Annotated[
        bool | None,
        typer.Option("--views/--no-views", help="Score each kept view of a run for the report, too. Default: yes."),
    ] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Score results against ground truth: box and mask AP by size and, where classes have frequencies, by those.

    `wad-kaggle` is WAD's metric as an entrant restated it, `wad-coco` COCO's on its seven classes; neither is official.
    `proposals` is the recall of the best 100, 300 and 1000 boxes whatever their classes. Example:
    `tis-ray evaluate --ground-truth demo/scenes/instances_val.json --predictions results.json`
    """
    import orjson

    from tis_ray.evaluation.comparison import held
    from tis_ray.evaluation.metrics import METRICS, WITH_INTERVALS, evaluate_by, figures, metric_table
    from tis_ray.explaining.predictions import read_predictions
    from tis_ray.formats.bad_entries import BadEntries
    from tis_ray.formats.dataset import is_federated
    from tis_ray.formats.opening import open_path

    for name in metric or ():
        if name not in METRICS:
            raise ConfigError(f"--metric: expected one of {', '.join(METRICS)}; got '{name}'")
    for option, value in (("--pictures", pictures), ("--views", views)):
        if value is not None and report is None:
            raise ConfigError(f"{option}: expected --report beside it, whose it is; got none")
    if bootstrap and metric and not set(metric) & set(WITH_INTERVALS):
        raise ConfigError(
            f"--bootstrap: expected a metric with intervals beside it, {', '.join(WITH_INTERVALS)}; "
            f"got {', '.join(metric)}"
        )
    check_out("--out", out)
    check_folder("--report", report)
    dataset = open_path(data_place("--ground-truth", ground_truth), image_folder)
    bad = BadEntries(skip=skip_bad)
    read = read_predictions(predictions, dataset, bad=bad)
    tell_bad(bad, "results")
    names = list(dict.fromkeys(metric or ["lvis" if is_federated(dataset) else "coco"]))
    if len(names) > 1 or report is not None:
        dataset = held(dataset)
    reports = [(name, evaluate_by(name, dataset, read.results, bootstrap=bootstrap)) for name in names]
    for name, figures_of in reports:
        console().print(metric_table(name, figures_of))
    if out is not None:
        out.write_bytes(orjson.dumps(figures(reports), option=orjson.OPT_INDENT_2))
        say(f"figures: {out}")
    if report is not None:
        from tis_ray.explaining.report import evaluation_report

        page = evaluation_report(
            report,
            dataset,
            read,
            reports,
            score_each_view=views is not False,
            num_pictures=6 if pictures is None else pictures,
        )
        say(f"report: {page}")
