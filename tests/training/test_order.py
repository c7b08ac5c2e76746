"""Recipes that begin from each other's checkpoints."""

from pathlib import Path

import pytest

from tests.tiny import tiny_recipe
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError
from tis_ray.training.order import bases, chained, moved


def recipe(name: str, start: str | None = None, output: str = "/runs", **rest: object) -> Recipe:
    section = {} if start is None else {"start": {"checkpoint": start, **rest}}
    return tiny_recipe(name=name, output=output, **section)


def test_a_recipe_waits_for_the_run_whose_checkpoint_it_begins_from():
    recipes = [
        recipe("c", "/runs/b/checkpoint"),
        recipe("b", "/runs/a/checkpoint"),
        recipe("a"),
        recipe("elsewhere", "/coco"),
        recipe("neighbour", "/runs/ab/checkpoint"),
    ]
    assert bases(recipes) == {"c": "b", "b": "a"}


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        pytest.param({"a": "a"}, "a from a", id="itself"),
        pytest.param({"a": "b", "b": "a"}, "a from b from a", id="each other"),
        pytest.param({"x": "a", "a": "b", "b": "c", "c": "a"}, "a from b from c from a", id="three, and one outside"),
    ],
)
def test_recipes_that_wait_for_each_other_are_refused(starts, told):
    with pytest.raises(ConfigError, match=rf"^start\.checkpoint: expected runs in some order; got {told}$"):
        bases([recipe(name, f"/runs/{base}/checkpoint") for name, base in starts.items()])


def test_other_folders_of_a_run_are_refused():
    with pytest.raises(ConfigError, match=r"expected /runs/a/checkpoint, .*; got /runs/a/checkpoint_000003"):
        bases([recipe("a"), recipe("b", "/runs/a/checkpoint_000003")])


def test_a_chain_begins_each_run_from_the_one_before():
    done = chained([recipe("a", "/coco"), recipe("b", "/other", classes={"car": "auto"}), recipe("c", output="/tuned")])
    assert [one.start.checkpoint for one in done] == [
        Path(f"/{p}") for p in ("coco", "runs/a/checkpoint", "runs/b/checkpoint")
    ]
    assert done[1].start.classes == {"car": "auto"}
    assert chained([]) == []


def test_starts_follow_runs_that_go_elsewhere():
    recipes = [recipe("a"), recipe("b", "/runs/a/checkpoint"), recipe("c", "/coco")]
    outputs = {one.name: one.model_copy(update={"output": Path("/mnt/runs")}) for one in recipes}
    a, b, c = moved(recipes, outputs)
    assert a.start is None
    assert b.start.checkpoint == Path("/mnt/runs/a/checkpoint")
    assert c.start.checkpoint == Path("/coco")
