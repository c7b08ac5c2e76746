"""Parts and their options as a terminal shows them."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tis_ray.inspection.parts import Details, Part


def menu_tables(parts: Sequence[Part]) -> Iterator[RenderableType]:
    """For each menu its keys and a row for each part; a star where a recipe that says nothing gets it."""
    width = max(len(part.name) for part in parts) + 2
    for menu, group in groupby(parts, key=lambda part: part.menu):
        yield Text.assemble((menu.folder, "bold"), f"  ({' or '.join(menu.keys)})")
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=width, no_wrap=True)
        table.add_column()
        for part in group:
            table.add_row(Text(part.name + (" *" if part.default else "")), Text(part.summary))
        yield Padding(table, (0, 0, 1, 2), expand=False)
    if any(part.default for part in parts):
        yield Text("* where a recipe says nothing; `tis-ray models NAME` shows a part's options", style="dim")


def details_lines(shown: Details) -> Iterator[RenderableType]:
    """A part's keys, docstrings and options."""
    part = shown.part
    yield Text.assemble((part.name, "bold"), f"  {part.menu.folder} ({' or '.join(part.menu.keys)})")
    for text in (shown.about, shown.builds):
        yield Padding(Text(_reflowed(text)), (0, 0, 1, 2), expand=False)
    if not shown.options:
        yield Padding(Text("no options"), (0, 0, 1, 2), expand=False)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("option", "values", "default"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "option")
    for option in shown.options:
        table.add_row(Text(option.name), Text(option.values), Text(option.default))
    yield Padding(table, (0, 0, 0, 2), expand=False)


def _reflowed(docstring: str) -> str:
    """Paragraphs without line breaks, but for those that are laid out, as lists and columns are."""
    paragraphs = docstring.split("\n\n")
    return "\n\n".join(text if "  " in text else text.replace("\n", " ") for text in paragraphs)
