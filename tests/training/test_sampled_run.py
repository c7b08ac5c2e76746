"""Runs whose epochs are not the data set: images of rare classes several times, and external ones between."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tis_ray.config import Recipe
from tis_ray.errors import ConfigError, DataError
from tis_ray.training.run import Worker, assemble, run
from tis_ray.training.trainer import train

REPEATED = "data.sampling={repeat_factor: {threshold: 1.0}}"
MANY = "data.sampling={class_aware: {empty_share: 0.2}}"


@pytest.fixture
def external(rectangles: Path) -> str:
    """The same pictures once more, of which a file with other ids knows the red squares alone."""
    content = json.loads(rectangles.read_text())
    reds = [one for one in content["annotations"] if one["category_id"] == 1]
    content["categories"] = [{"id": 9, "name": "red"}]
    content["annotations"] = [{**one, "category_id": 9, "image_id": one["image_id"] + 100} for one in reds]
    content["images"] = [{**image, "id": image["id"] + 100} for image in content["images"]]
    path = rectangles.parent / "external.json"
    path.write_text(json.dumps(content))
    return f"data.external={{annotations: {path}, images_per_epoch: 3, loss_weight: 0.5}}"


def test_an_epoch_holds_external_images_of_less_weight(make_recipe: Callable[..., Recipe], external: str) -> None:
    job = assemble(make_recipe("toy", MANY, external, "data.scale_sampling=range"), Worker())
    batches = list(job.batches.epoch(0))
    assert len(batches) == len(job.batches) == 4 + 2
    assert sorted((batch.loss_weight, batch.external) for batch in batches) == [(0.5, True)] * 2 + [(1, False)] * 4
    others = [batch for batch in batches if batch.external]
    assert all(id_ >= 100 for batch in others for id_ in batch.image_ids)
    assert {label for batch in others for one in batch.annotations for label in one.labels.tolist()} <= {0}
    assert all(one.unverified.tolist() == [False, True] for batch in others for one in batch.annotations)
    assert all(id_ < 100 for batch in batches if not batch.external for id_ in batch.image_ids)
    assert sum(job.categories.counts) == 14  # of the training set alone


def test_a_run_that_was_killed_in_mid_epoch_ends_as_an_uninterrupted_one(
    make_recipe: Callable[..., Recipe], external: str, run_until: Callable[..., None]
) -> None:
    options = REPEATED, external, "schedule.epochs=1", "schedule.checkpoint_every_iterations=1"
    whole, cut = make_recipe("whole", *options), make_recipe("cut", *options)
    run(whole)
    run_until(cut, 3)
    run(cut)
    left, right = (load_file(recipe.run_dir / "checkpoint_000001" / "model.safetensors") for recipe in (whole, cut))
    assert left.keys() == right.keys()
    assert all((left[name] == right[name]).all() for name in left)


def test_external_data_that_is_wrong_is_told_before_training(
    make_recipe: Callable[..., Recipe], rectangles: Path, external: str
) -> None:
    with pytest.raises(ConfigError, match=r"^data\.external\.annotations: expected a COCO JSON file; got /nowhere$"):
        train([make_recipe("toy", "data.external={annotations: /nowhere}")])
    with pytest.raises(ConfigError, match=r"^data\.sampling: expected one of class_aware, every, repeat_factor; got"):
        train([make_recipe("toy", "data.sampling=never")])
    path = rectangles.parent / "external.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "categories": [{"id": 9, "name": "green"}]}))
    with pytest.raises(DataError, match=r"external\.json: categories: .* of the training set; got green$"):
        assemble(make_recipe("toy", external), Worker())
    content["images"][0]["file_name"] = "lost.png"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"external\.json: 1 of its 8 image files are missing.*lost\.png"):
        assemble(make_recipe("toy", external), Worker())
