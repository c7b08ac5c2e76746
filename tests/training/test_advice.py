"""Lines about recipes that are right and yet perhaps not meant so."""

import re

import pytest

from tis_ray.config import load_recipe
from tis_ray.config.reading import SHIPPED_RECIPES
from tis_ray.training.advice import advice


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        pytest.param(["schedule.epochs=1"], "8, 11 lie behind the end, after 1 epoch; .* not lowered$", id="all"),
        pytest.param(["schedule.epochs=11"], "11 lies behind the end, after 11 epochs; .* further$", id="at the end"),
        pytest.param(
            ["schedule={iterations: 90, milestones: [60, 120]}"],
            "120 lies behind the end, after 90 iterations; .* further$",
            id="iterations",
        ),
    ],
)
def test_milestones_that_are_never_reached(make_recipe, overrides, line):
    recipe = make_recipe("toy", "schedule.milestones=[8, 11]", *overrides)
    with_line = [told for told in advice(recipe) if told.startswith("toy: schedule.milestones: ")]
    assert len(with_line) == 1
    assert re.search(line, with_line[0])


def test_a_range_of_workers_without_checkpoints_inside_an_epoch(make_recipe):
    ranged = "resources.workers=[1, 4]"
    (line,) = advice(make_recipe("toy", ranged))
    assert line.startswith("toy: resources.workers: each change of their number loses")
    assert advice(make_recipe("toy", ranged, "schedule.checkpoint_every_iterations=100")) == []
    assert advice(make_recipe("toy", "resources.workers=4")) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_RECIPES.glob("*.yaml")))
def test_there_is_nothing_to_say_of_recipes_that_ship(name):
    assert advice(load_recipe(name)) == []
