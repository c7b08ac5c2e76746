"""A report as one HTML file: text, tables, plots and pictures, readable on a phone, without scripts or a network.

A page is data: `render(Page("Title", "What it says.", [Section("Sizes", [Text(...), Table(...), Figure(...)])]))`.
All text is escaped; a plot is an SVG of `tis_ray.reports.plots`, a picture is held by the page itself.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from tis_ray import whole_files

Cell = str | int | float | None  # None is nothing to say, shown as a dash

_QUALITY = 82  # of pictures, in WebP


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below `headers`; the first cell names its row. With `folded`, a line that opens the table."""

    kind: ClassVar[str] = "table"
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Lines as they are, a recipe for example, below a line that opens them."""

    kind: ClassVar[str] = "listing"
    lines: str
    folded: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot, and in words what is to be seen in it."""

    kind: ClassVar[str] = "figure"
    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Figures side by side, where the screen has room for them."""

    kind: ClassVar[str] = "row"
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and, in words, what is to be seen in it."""

    image: Image.Image
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        held = io.BytesIO()
        self.image.convert("RGB").save(held, "WEBP", quality=_QUALITY)
        return "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Pictures:
    """A grid of pictures. `wide` ones take a whole row each, `pairs` stand two in a row where there is room."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]
    wide: bool = False
    pairs: bool = False


Block = Text | Table | Listing | Figure | Row | Pictures


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A title, a paragraph that says the most important, and sections."""

    title: str
    lead: str
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML."""
    return _template().render(page=page)


def write(page: Page, path: Path) -> None:
    """Write the page whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write(path, render(page))


@cache
def _template() -> Template:
    loader = PackageLoader("tis_ray.reports", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = _shown
    return environment.get_template("page.html.j2")


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"
