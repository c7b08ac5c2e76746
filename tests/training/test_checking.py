"""What is wrong with a recipe's data is said before Ray starts or anything is written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from tests.training.conftest import small_recipe
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError, DataError
from tis_ray.training.checking import check
from tis_ray.training.order import bases
from tis_ray.training.trainer import train


@pytest.fixture
def changed(rectangles: Path, tmp_path: Path) -> Callable[..., Path]:
    """`changed(name, content)`: another annotation file of the same pictures, some keys of it replaced."""

    def write(name: str, **content: object) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(json.loads(rectangles.read_text()) | content))
        return path

    return write


def refused(recipe: Recipe, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        train([recipe])
    assert "\n" not in str(caught.value)
    assert not recipe.run_dir.exists()
    assert not ray.is_initialized()


UNICORN = [{"id": 1, "name": "red"}, {"id": 2, "name": "unicorn"}]


def test_classes_that_are_not_trained(make_recipe, changed, rectangles):
    file = changed("other", categories=UNICORN)
    external = f"data.external={{annotations: '{file}', images: '{rectangles.parent}'}}"
    expected = r"other\.json: categories: expected classes of the training set; got unicorn$"
    refused(make_recipe("toy", external), DataError, expected)
    val = f"data.val={{annotations: '{file}', images: '{rectangles.parent}'}}"
    refused(make_recipe("toy", val), ConfigError, r"^data\.val: unicorn not among the expected classes \(red, blue\)")


def test_many_classes_are_not_all_listed(make_recipe, changed, rectangles):
    table = [{"id": i, "name": f"class{i}"} for i in range(1, 9)]
    external = f"data.external={{annotations: '{changed('other', categories=table)}', images: '{rectangles.parent}'}}"
    refused(make_recipe("toy", external), DataError, r"got class1, class2, class3, class4, class5 and 3 more$")


@pytest.mark.parametrize("key", ["train", "external"])
def test_files_of_unlabelled_objects(make_recipe, rectangles, tmp_path, key):
    there = "" if key == "train" else f"data.external={{annotations: '{rectangles}'}}"
    overrides = [*filter(None, [there]), f"data.{key}.unlabelled={tmp_path / 'boxes.json'}"]
    refused(make_recipe("toy", *overrides), ConfigError, rf"^data\.{key}\.unlabelled: expected a file of boxes; got /")
    (tmp_path / "boxes.json").write_text('{"images": [{"id": 77}]}')
    expected = r"boxes\.json: images\[0\]: id: expected one of the 8 images .*; got 77$"
    refused(make_recipe("toy", *overrides), DataError, expected)


@pytest.mark.parametrize("key", ["train", "val", "external"])
def test_pictures_that_are_missing(make_recipe, changed, rectangles, key):
    images = json.loads(rectangles.read_text())["images"]
    file = changed("lost", images=[images[0] | {"file_name": "nowhere.png"}, *images[1:]])
    folder = f"data.{key}={{annotations: '{file}', images: '{rectangles.parent}'}}"
    refused(make_recipe("toy", folder), DataError, r"lost\.json: 1 of its 8 image files are missing, .*nowhere\.png$")


def test_annotations_behind_a_url_that_is_not_there(make_recipe):
    recipe = make_recipe("toy", "data.train.annotations=memory://nowhere/instances.json")
    refused(recipe, DataError, r"^memory:.*instances\.json: cannot be read \(No such file\)$")


def test_the_class_names_of_a_start(make_recipe, rectangles, tmp_path, tiny_checkpoint):
    start = f"start={{checkpoint: '{tiny_checkpoint}', classes: {{red: unicorn}}}}"
    expected = r"^start\.classes\.red: expected a class of the checkpoint or null: .*; got 'unicorn'$"
    refused(make_recipe("toy", start), ConfigError, expected)
    base = small_recipe(rectangles, tmp_path / "runs", "base")
    after = f"start={{checkpoint: '{base.run_dir / 'checkpoint'}', classes: {{red: {{}}}}}}".replace("{}", "unicorn")
    recipes = [base, make_recipe("tuned", after)]
    with pytest.raises(ConfigError, match=r"^tuned: start\.classes\.red: .*: red, blue; got 'unicorn'$"):
        check(recipes, bases(recipes), resume=False)


def test_what_is_right_is_passed(make_recipe, changed, rectangles):
    external = f"data.external={{annotations: '{rectangles}'}}"
    recipes = [make_recipe("one", f"data.val={{annotations: '{rectangles}'}}", external), make_recipe("two")]
    check(recipes, {}, resume=False)
