"""Menus: what a folder offers, and what is said where a choice or an option is wrong."""

import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field

from tis_ray import menu
from tis_ray.errors import ConfigError


def cook(dish, *, minutes: Annotated[int, Field(gt=0)] = 10, heat: Literal["low", "high"] = "low", salt: float):
    """An option function: `salt` has no default."""
    return dish, minutes, heat, salt


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """A menu folder of two modules beside a private one and a note."""
    folder = tmp_path / "kitchen_of_this_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "soup.py").write_text("def serve():\n    return 'soup'\n")
    (folder / "salad.py").write_text("raise RuntimeError('only what is picked is imported')\n")
    (folder / "_shared.py").write_text("")
    (folder / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_choices_are_the_public_modules(kitchen):
    assert menu.choices(kitchen) == ["salad", "soup"]


def test_pick_imports_only_what_is_picked(kitchen):
    assert menu.pick(kitchen, "serve", "soup", key="dish")() == "soup"


def test_a_new_file_is_a_new_choice(kitchen, tmp_path):
    (tmp_path / kitchen / "tart.py").write_text("def serve():\n    return 'tart'\n")
    assert menu.pick(kitchen, "serve", "tart", key="dish")() == "tart"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("soop", "dish: expected one of salad, soup; got 'soop'; did you mean 'soup'?"),
        ("pizza", "dish: expected one of salad, soup; got 'pizza'"),
        ("_shared", "dish: expected one of salad, soup; got '_shared'"),
        ("../soup", "dish: expected one of salad, soup; got '../soup'; did you mean 'soup'?"),
    ],
)
def test_an_unknown_name_lists_the_choices(kitchen, name, message):
    with pytest.raises(ConfigError) as caught:
        menu.pick(kitchen, "serve", name, key="dish")
    assert str(caught.value) == message


def test_a_folder_that_does_not_exist_is_a_defect():
    with pytest.raises(ModuleNotFoundError, match=r"no menu folder tis_ray\.nothing"):
        menu.choices("tis_ray.nothing")


def test_options_are_converted_and_defaults_left_to_the_function():
    assert menu.check_options(cook, {"minutes": "5", "salt": 1}, key="dish") == {"minutes": 5, "salt": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"salt": 1, "minuts": 5}, r"^dish\.minuts: unknown key; did you mean 'minutes'\?; .* heat, minutes, salt$"),
        ({"salt": 1, "dish": "soup"}, r"^dish\.dish: unknown key; the keys here are heat, minutes, salt$"),
        ({}, r"^dish\.salt: this key is required$"),
        ({"salt": "much"}, r"^dish\.salt: .*number.*; got 'much'$"),
        ({"salt": float("inf")}, r"^dish\.salt: .*finite number; got inf$"),
        ({"salt": 1, "minutes": 0}, r"^dish\.minutes: .* greater than 0; got 0$"),
        ({"salt": 1, "heat": "hot"}, r"^dish\.heat: .*'low' or 'high'; got 'hot'$"),
        ({"salt": "x", "minutes": "y"}, r"^dish\.minutes: .*; got 'y' \(and 1 more\)$"),
        ({"salt": "x" * 200}, r"^dish\.salt: .*; got 'x{76}\.\.\.$"),
    ],
)
def test_a_wrong_option_is_named_by_its_path(options, message):
    with pytest.raises(ConfigError, match=message):
        menu.check_options(cook, options, key="dish")
