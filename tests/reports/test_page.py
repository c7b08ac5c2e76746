"""Pages: what is in them, that nothing of it is taken for markup, and that they need nothing else."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tis_ray.reports import plots
from tis_ray.reports.page import Figure, Listing, Page, Picture, Pictures, Row, Section, Table, Text, render, write

NASTY = '<script>alert("1")</script> & $x$'


class Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture(scope="module")
def page() -> Page:
    figure = Figure(plots.lines({NASTY: ([0, 1], [2.0, 1.0])}, xlabel="step", ylabel=NASTY), NASTY, NASTY)
    picture = Picture(Image.new("RGB", (40, 30), (200, 10, 10)), NASTY, NASTY)
    table = Table([NASTY, "number"], [[NASTY, 12345], ["share", 0.123456], ["none", None]], caption=NASTY)
    blocks = [Text(NASTY), table, Table(["a"], [["b"]], folded=NASTY), Listing(NASTY, NASTY), figure]
    return Page(NASTY, NASTY, [Section(NASTY, [*blocks, Row([figure, figure]), Pictures([picture])])])


def test_everything_is_text_and_nothing_is_taken_for_markup(page: Page) -> None:
    read = Reader(render(page))
    assert "script" not in {tag for tag, _ in read.tags}
    assert read.texts.count(NASTY) == 18, "title twice, lead, heading, text, table 2, folded, listing 2, figures 9"


def test_it_asks_for_nothing_from_elsewhere(page: Page) -> None:
    html = render(page)
    read = Reader(html)
    for tag, attributes in read.tags:
        for key in ("src", "href", "xlink:href"):
            address = attributes.get(key) or "#"
            assert address.startswith(("#", "data:")), f"{tag} {key}={address}"
    assert not re.findall(r"@import|url\((?!#)", html)


def test_numbers_are_told_apart_from_text(page: Page) -> None:
    html = render(page)
    assert '<td class="number">12,345</td>' in html
    assert '<td class="number">0.1235</td>' in html
    assert "<td>-</td>" in html


def test_headings_alternative_texts_and_header_cells_are_there(page: Page) -> None:
    read = Reader(render(page))
    assert [tag for tag, _ in read.tags if tag in ("h1", "h2", "h3")] == ["h1", "h2"]
    assert all(attributes.get("alt") == NASTY for tag, attributes in read.tags if tag == "img")
    assert [a["aria-label"] for tag, a in read.tags if tag == "div" and a.get("role") == "img"] == [NASTY] * 3
    assert {attributes.get("scope") for tag, attributes in read.tags if tag == "th"} == {"col", "row"}
    assert ("html", {"lang": "en"}) in read.tags


def test_a_picture_is_held_by_the_page(page: Page) -> None:
    (source,) = [attributes["src"] or "" for tag, attributes in Reader(render(page)).tags if tag == "img"]
    held = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert held.size == (40, 30)
    assert held.convert("RGB").getpixel((20, 15))[0] > 150


def test_a_page_without_anything_is_a_page() -> None:
    assert "<h1>Nothing</h1>" in render(Page("Nothing", "", []))


def test_it_is_written_whole_and_its_folder_is_made(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write(page, path)
    assert path.read_text().endswith("</html>\n") or path.read_text().endswith("</html>")
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]
