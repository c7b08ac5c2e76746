"""Commands about detectors before there is one: models."""

import json
from typing import Annotated

import typer

from tis_ray.cli.shared import console, say


def models(
    name: Annotated[
        str | None, typer.Argument(help="A part, or a menu or its key for all of its parts; default: all of them.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For machines, with each option's JSON Schema.")] = False,
) -> None:
    """List the parts that a recipe's detector is made of, or show the options of one.

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
