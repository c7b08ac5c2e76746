"""Scenes of a long tail, from files to scores: their federated lists reach the loss, and the metric is LVIS's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.conftest import small_recipe
from tis_ray.cli import app
from tis_ray.config import Recipe
from tis_ray.data.scenes.write import write_scenes
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.coco_results import to_results
from tis_ray.instances import Instances
from tis_ray.training.run import Worker, assemble, run

VERIFIED = "detector.box.classification={eql: {negatives: verified}}"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes, of which the training images say of few classes only that they are absent."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, num_images=6, preset="longtail", size_wh=(128, 96), processes=1)
    path = folder / "instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["neg_category_ids"] = image["neg_category_ids"][::4]
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture
def recipe(scenes: Path, tmp_path: Path) -> Recipe:
    val = f"data.val.annotations={scenes / 'instances_val.json'}"
    return small_recipe(scenes / "instances_train.json", tmp_path / "runs", "longtail", VERIFIED, val)


def test_what_was_verified_reaches_the_batches_and_leaves_the_rest_of_the_loss_out(recipe: Recipe) -> None:
    job = assemble(recipe, Worker())
    unverified = [one.unverified for batch in job.batches.epoch(0) for one in batch.annotations]
    assert unverified
    assert all(0 < one.sum() < len(job.categories) for one in unverified)


def test_a_run_notes_scores_by_frequency(recipe: Recipe) -> None:
    found = []
    run(recipe, report=lambda metrics, _: found.append(metrics))
    scores = found[-1]
    assert {"box_ap", "box_ap_rare", "mask_ap", "mask_ap_rare"} <= scores.keys()
    assert scores["box_ap_rare"] == scores["box_ap"]  # of so few images every class is rare
    assert not {"box_ap_frequent", "mask_ap_common"} & scores.keys()


def test_results_on_scenes_are_scored_by_lviss_rules(scenes: Path, tmp_path: Path) -> None:
    truth, results = coco.read(scenes / "instances_val.json"), []
    for record in truth.images:
        objects = truth.annotations(record.id)
        found = Instances.of(objects.boxes, [0.9] * len(objects), objects.labels)
        results += to_results(
            found, image_id=record.id, categories=truth.categories, size_hw=(record.height, record.width)
        )
    (tmp_path / "results.json").write_text(json.dumps(results))
    arguments = ["evaluate", "--ground-truth", str(truth.path), "--predictions", str(tmp_path / "results.json")]
    figures = tmp_path / "figures.json"
    for metric, recall in (([], "AR300"), (["--metric", "coco"], "AR100"), (["--metric", "lvis"], "AR300")):
        done = CliRunner().invoke(app, [*arguments, *metric, "--out", str(figures)], catch_exceptions=False)
        assert done.exit_code == 0
        assert ("by LVIS's rules" in done.output) == (recall == "AR300")
        assert "APr" in done.output
        scores = json.loads(figures.read_text())["bbox"]
        assert (scores["AP"], scores["APr"], scores[recall]) == pytest.approx((1, 1, 1))


def test_a_loss_of_verified_classes_needs_data_that_names_them(make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^detector\.box\.classification\.eql\.negatives: verified expects images that say .*; none of .* does",
    ):
        assemble(make_recipe("toy", VERIFIED), Worker())
    assemble(make_recipe("toy", VERIFIED.replace("verified", "sampled")), Worker())
