"""The number of classes is the data's, or is said to be assumed."""

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_recipe
from tis_ray.errors import DataError
from tis_ray.inspection.classes import classes_of


def recipe_of(path: Path):
    return tiny_recipe(data={"train": {"annotations": str(path)}})


def test_classes_of_a_coco_file_wherever_they_stand_in_it(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    classes = [{"id": 7, "name": "car"}, {"id": 3, "name": "person"}]
    path.write_text(json.dumps({"info": {}, "images": [{"id": 1}] * 3, "categories": classes, "annotations": []}))
    categories, told = classes_of(recipe_of(path))
    assert categories.names == ("person", "car")
    assert told == f"2 classes of {path}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": []}', "categories: expected a list"),
        ('{"categories": [{"id": 1}]}', "name: expected a name"),
        ("[]", "not valid JSON"),
    ],
)
def test_a_file_without_them_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        classes_of(recipe_of(path))


@pytest.mark.parametrize(("rider", "number"), [(False, 7), (True, 8)])
def test_classes_of_wad_need_no_data(rider: bool, number: int) -> None:
    recipe = tiny_recipe(data={"train": {"labels": "nowhere", "images": "nowhere", "rider": rider}})
    categories, told = classes_of(recipe)
    assert len(categories) == number
    assert told == f"{number} classes of WAD"


def test_as_many_as_are_asked_for() -> None:
    categories, told = classes_of(recipe_of(Path("nowhere.json")), 1203)
    assert len(categories) == 1203
    assert told == "1203 classes"


def test_as_many_as_coco_s_where_there_are_no_data() -> None:
    for recipe, reason in (
        (recipe_of(Path("nowhere.json")), "nowhere.json is not there"),
        (tiny_recipe(data=None), "no data"),
    ):
        categories, told = classes_of(recipe)
        assert len(categories) == 80
        assert told == f"80 classes, as COCO has ({reason}; see --classes)"
