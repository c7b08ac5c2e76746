"""Commands about detectors before there is one: models, inspect."""

import json
from typing import Annotated

import typer

from tis_ray.cli.shared import Overrides, console, progress, say, size_wh


def models(
    name: Annotated[
        str | None, typer.Argument(help="A part, or a menu or its key for all of its parts; default: all of them.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For machines, with each option's JSON Schema.")] = False,
) -> None:
    """List the parts that a recipe chooses from, of its detector and its data, or show the options of one.

    Example: `tis-ray models`, `tis-ray models resnet50`, `tis-ray models necks --json`
    """
    from tis_ray.inspection.part_tables import details_lines, menu_tables
    from tis_ray.inspection.parts import details, find_parts, list_parts

    parts = list_parts() if name is None else find_parts(name)
    in_full = name is not None and all(part.name == name for part in parts)
    if json_:
        say(json.dumps([details(part).to_json() if in_full else part.to_json() for part in parts], indent=2))
        return
    for line in (line for part in parts for line in details_lines(details(part))) if in_full else menu_tables(parts):
        console().print(line)


def inspect(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a recipe that tis-ray ships.")],
    scale: Annotated[
        list[int] | None, typer.Option(min=1, help="Shorter edge in place of the recipe's views; may be repeated.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the images; default 3384x2710 for WAD, else 640x480.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes; default: the data's, or 80 where they are not there.")
    ] = None,
    training: Annotated[bool, typer.Option("--training", help="Say what memory a training step takes, too.")] = False,
    overrides: Overrides = None,
) -> None:
    """Show what detector a recipe assembles and what it costs, without weights, data or a GPU.

    Choices, weights in millions, and for each view the arithmetic of every part (a multiply-add counts as two) and the
    memory of a forward.

    Example: `tis-ray inspect tis_r50 --set detector.backbone=resnet101`
    """
    from tis_ray.config import load_recipe
    from tis_ray.inspection.costs import inspect as run
    from tis_ray.inspection.report import report

    loaded = load_recipe(recipe, overrides or ())
    width, height = (None, None) if image is None else size_wh("--image", image)
    with progress() as bar:
        task = bar.add_task("views", total=None)
        found = run(
            loaded,
            image_hw=None if width is None or height is None else (height, width),
            scales=scale or (),
            num_classes=classes,
            training=training,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for part in report(found):
        console().print(part)
