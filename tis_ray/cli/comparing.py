"""The command that puts two sets of results side by side: compare."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tis_ray.cli.shared import PLACE, SkipBad, check_folder, check_out, console, data_place, say, tell_bad


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="COCO results JSON, or the folder of a batch run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, of the same images.")],
    ground_truth: Annotated[
        str, typer.Option(metavar=PLACE, help="COCO JSON with annotations, or folder of WAD label images.")
    ],
    image_folder: Annotated[
        Path | None, typer.Option(help="For a folder of labels: what was predicted, a folder, .txt or .json of images.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Draws of the images for the intervals; 0 for none.")] = 1000,
    report: Annotated[
        Path | None, typer.Option(help="Folder to write: report.html, its plots as PNG, and figures.json.")
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images that got better, and as many that got worse, shown by the report.")
    ] = 6,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Say whether B is better than A, and whether the difference is beyond chance.

    Both are scored on the same draws of the images, so that what is left is the difference. Example:
    `tis-ray compare before.json after.json --ground-truth demo/scenes/instances_val.json --report compared`
    """
    import orjson

    from tis_ray.explaining.comparing import compare as compared_of
    from tis_ray.explaining.comparing import verdict
    from tis_ray.explaining.comparison_page import difference_rows, headers_of, paired_of, write_comparison
    from tis_ray.explaining.predictions import read_predictions
    from tis_ray.formats.bad_entries import BadEntries
    from tis_ray.formats.opening import open_path

    check_out("--out", out)
    check_folder("--report", report)
    dataset = open_path(data_place("--ground-truth", ground_truth), image_folder)
    bad = BadEntries(skip=skip_bad)
    both = [read_predictions(path, dataset, bad=bad) for path in (first, second)]
    tell_bad(bad, "results")
    compared = compared_of(dataset, *both, num_samples=bootstrap)
    for word, one in paired_of(compared):
        table = Table()
        for i, header in enumerate(headers_of(compared, word)):
            table.add_column(escape(header), justify="right" if 0 < i < 5 else "left", overflow="fold")
        for row in difference_rows(one.scores):
            table.add_row(*row)
        console().print(table)
    say(verdict(compared))
    if out is not None:
        out.write_bytes(orjson.dumps(compared.to_json(), option=orjson.OPT_INDENT_2))
        say(f"figures: {out}")
    if report is not None:
        say(f"report: {write_comparison(report, compared, num_pictures=pictures)}")
