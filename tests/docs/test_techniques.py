"""The page of techniques: every part is on it, and every key on it can be written."""

import re
from pathlib import Path

import pytest

import tis_ray
from tis_ray.config import load_recipe
from tis_ray.inspection.parts import MENUS
from tis_ray.menu import choices
from tis_ray.models.assembly import check_parts

ROOT = Path(__file__).parents[2]
FIGURES = re.compile(r"<!-- (\w+ figures) -->.*?<!-- end of \1 -->", re.DOTALL)
PAGE = FIGURES.sub("", (ROOT / "docs" / "techniques.md").read_text())
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| technique |"))
]
QUOTED = re.compile(r"`([^`]+)`")
CHOICES = [
    pytest.param(QUOTED.findall(choice), id=f"{row[0]}: {choice}")
    for row in ROWS
    for choice in row[1].split(" or ")
    if "=" in choice
]


def test_the_tables_are_read() -> None:
    assert len(ROWS) >= 40
    assert all(len(row) == 5 for row in ROWS)
    assert [row[0] for row in ROWS if "=" not in row[1]] == ["ensembles"]


@pytest.mark.parametrize("keys", CHOICES)
def test_a_key_can_be_written(keys: list[str]) -> None:
    assert keys
    recipe = load_recipe("lvis_r50_eql", keys)
    if any(key.startswith("detector") for key in keys):
        check_parts(recipe.detector)


@pytest.mark.parametrize("menu", MENUS, ids=lambda menu: menu.folder)
def test_every_part_is_named_with_its_key(menu: object) -> None:
    written = {key for row in ROWS for key in QUOTED.findall(row[1])}
    missing = [name for name in choices(menu.package) if not any(is_named(name, menu.key, key) for key in written)]
    assert not missing, f"docs/techniques.md: expected a row with the key `{menu.key}={missing[0]}`; {missing=}"


def is_named(name: str, menu_key: str, key: str) -> bool:
    """Whether `key` sets the menu's key to this choice: by itself, with options, or in its section."""
    section, _, last = menu_key.rpartition(".")
    pattern = rf"{re.escape(menu_key)}=(\{{)?{name}(: .*\}})?|{re.escape(section)}=.*\b{last}: {name}\b.*"
    return re.fullmatch(pattern, key) is not None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_files_are_there(row: list[str]) -> None:
    package = Path(tis_ray.__file__).parent
    assert all((package / file).is_file() for file in QUOTED.findall(row[4]))
