"""Every shipped recipe at work: its parts, its data's variations, one step, and its own test of what was trained.

Pictures are small and few anchors and regions are looked at; networks, losses and fusion are the recipe's.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks import recipes as benchmark
from tis_ray.config import Recipe, dump, load_recipe, parse
from tis_ray.config.reading import SHIPPED_RECIPES
from tis_ray.data.scenes import write_scenes
from tis_ray.formats.images import open_image
from tis_ray.fusion.fuse import Fuser
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.inference.predictor import Predictor
from tis_ray.models.assembly import without_weights
from tis_ray.training.loop import train_epoch
from tis_ray.training.run import Worker, assemble

NAMES = sorted(path.stem for path in SHIPPED_RECIPES.glob("*.yaml"))
TINY = [name for name in NAMES if name.startswith("tiny_")]
TWINS = [
    "tis_r50",
    "tis_r152_psp",
    "tis_se152",
    "lvis_r50_eql",
    "lvis_htc_x101",
    "lvis_htc_x101_bags",
    "megdet_shufflenet_detector",
    "megdet_shufflenet_segmenter",
    "subnet_r50_c4",
    "subnet_r101_fpn",
]
CLASSES = {"lvis_r50_eql": 1203, "lvis_htc_x101": 1203, "lvis_htc_x101_bags": 1203}
REDUCED = {
    "data": {"scales": [96], "max_long_edge": 128, "batch_size": 2, "loader_processes": 0},
    "rpn": {
        "samples_per_image": 32,
        "pre_nms_top_n_train": 60,
        "post_nms_top_n_train": 40,
        "pre_nms_top_n_test": 20,
        "post_nms_top_n_test": 10,
    },
    "box": {"samples_per_image": 16, "score_threshold": 0.0, "max_instances": 20},
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes") / "scenes"
    write_scenes(folder, num_images=3, size_wh=(160, 120), val_fraction=0.3, processes=1)
    return folder


def reduced(name: str, scenes: Path) -> Recipe:
    """The recipe over scenes, of small pictures and few regions, and without files that it would begin from."""
    recipe = load_recipe(name)
    content = dump(recipe.model_copy(update={"detector": without_weights(recipe.detector), "start": None}))
    backbone = content["detector"]["backbone"]
    for options in backbone.values() if isinstance(backbone, dict) else ():
        if options.get("norm") == "frozen":  # the statistics that it keeps came with the weights
            options["norm"] = "batch"
            options.pop("eps", None)
    train = {"annotations": str(_of_classes(scenes / "instances_train.json", CLASSES.get(name, 0)))}
    if recipe.detector.stuff is not None:
        train["stuff"] = str(scenes / "stuff")
    content["data"] |= {**REDUCED["data"], "train": train, "val": None}
    content["detector"]["rpn"] |= REDUCED["rpn"]
    content["detector"]["box"] |= REDUCED["box"]
    if recipe.test is not None:
        content["test"] |= {"scales": [96], "max_long_edge": 128}
    return parse(Recipe, content | {"output": str(scenes.parent / "runs")}, source=name)


def _of_classes(path: Path, count: int) -> Path:
    """The data set with as many classes, rare all of them; those of no object come after the others."""
    content = json.loads(path.read_bytes())
    first = max(one["id"] for one in content["categories"]) + 1
    missing = max(0, count - len(content["categories"]))
    content["categories"] += [{"id": first + i, "name": f"class {i}"} for i in range(missing)]
    for category in content["categories"]:
        category["frequency"] = "r"
    written = path.with_name(f"{count}.json")
    written.write_text(json.dumps(content))
    return written


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_takes_a_step_and_answers_by_its_own_test(name: str, scenes: Path) -> None:
    recipe = reduced(name, scenes)
    job = assemble(recipe, Worker())
    assert len(job.categories) == CLASSES.get(name, 7)
    frozen = set(recipe.schedule.frozen)
    learning = "roi_heads.stages.0.regressor.weight" if "rpn" in frozen else "rpn.head.cls_logits.weight"
    watched = job.detector.get_parameter(learning)
    before = watched.detach().clone()
    (step,) = train_epoch(
        job.model,
        job.batches.epoch(0),
        job.optimizer,
        job.learning_rate,
        first_step=0,
        seed=recipe.seed,
        device=torch.device("cpu"),
        clip_grad_norm=1.0,
    )
    assert {"loss_classifier", "loss_box_reg", "loss_mask"} <= step.losses.keys()
    assert ({"loss_objectness", "loss_rpn_box_reg"} <= step.losses.keys()) == ("rpn" not in frozen)
    assert ("loss_classifier_2" in step.losses) == (recipe.detector.box.cascade is not None)
    assert (step.losses.get("loss_stuff", 0) > 0) == (recipe.detector.stuff is not None)
    assert all(np.isfinite(loss) for loss in step.losses.values())
    assert not torch.equal(watched, before)

    ensemble = recipe.ensemble()
    assert ensemble is not None
    predictor = EnsemblePredictor(
        {recipe.name: Predictor(job.detector, device="cpu")},
        ensemble.views,
        Fuser.of(ensemble, job.categories, sizes={recipe.name: job.sizes}),
        job.categories,
    )
    found = predictor.predict(open_image(job.truth.images[0].path))
    assert 0 < len(found) <= ensemble.fusion.top_k
    found.check_values(num_classes=len(job.categories))
    assert (found.masks is None) == (recipe.detector.mask is not None and recipe.detector.mask.only_in_training)


@pytest.mark.parametrize("name", TWINS)
def test_a_recipe_of_the_papers_has_a_twin_of_the_same_parts(name: str) -> None:
    whole, twin = load_recipe(name).detector, load_recipe(f"tiny_{name}").detector
    assert [choice.name for choice in (whole.neck, whole.rpn.matching, whole.box.head)] == [
        choice.name for choice in (twin.neck, twin.rpn.matching, twin.box.head)
    ]
    assert (whole.box.classification.name, whole.box.sampling.name) == (
        twin.box.classification.name,
        twin.box.sampling.name,
    )
    assert (whole.box.context, whole.box.cascade) == (twin.box.context, twin.box.cascade)
    assert whole.box.pooling.name == twin.box.pooling.name
    for part in ("pooling", "head", "loss"):
        assert getattr(whole.mask, part).name == getattr(twin.mask, part).name
    for setting in ("area_ratio", "cascade", "only_in_training"):
        assert getattr(whole.mask, setting) == getattr(twin.mask, setting)
    assert (whole.mask.rescore is None) == (twin.mask.rescore is None)
    assert (whole.stuff is None) == (twin.stuff is None)
    assert whole.roi_levels == twin.roi_levels
    assert (whole.anchors.name == "pyramid") == (twin.anchors.name == "pyramid")
    data, twins = load_recipe(name).data, load_recipe(f"tiny_{name}").data
    assert data is not None
    assert twins is not None
    assert (data.regions.valid_training_region is None) == (twins.regions.valid_training_region is None)


def test_a_second_training_begins_where_the_first_one_ended() -> None:
    for prefix in ("", "tiny_"):
        first, second = (load_recipe(f"{prefix}lvis_htc_x101{name}") for name in ("", "_bags"))
        assert second.start.checkpoint == first.run_dir / "checkpoint"
        boxes = second.detector.box.model_copy(update={"classification": first.detector.box.classification})
        alone = second.detector.model_copy(update={"box": boxes, "backbone": first.detector.backbone})
        assert alone == first.detector
        assert without_weights(second.detector).backbone == without_weights(first.detector).backbone


def test_a_recipe_is_trained_after_the_one_that_it_starts_from() -> None:
    second = "tiny_lvis_htc_x101_bags"
    first = second.removesuffix("_bags")
    assert benchmark.with_starts([second, "tiny_tis_r50", first]) == [first, second, "tiny_tis_r50"]
    recipes = [load_recipe(name) for name in ("tiny_tis_r50", first, second, "tiny_tis_se152")]
    named = [[recipe.name for recipe in batch] for batch in benchmark.batches(recipes, 3)]
    assert named == [["tiny_tis_r50", first], [second, "tiny_tis_se152"]]
    assert [len(batch) for batch in benchmark.batches(recipes, 1)] == [1, 1, 1, 1]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_every_tiny_recipe_is_trained_served_and_scored_from_its_one_file(tmp_path: Path) -> None:
    page = tmp_path / "recipes.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    short = ["schedule.epochs=1", "data.scales=[96]", "data.max_long_edge=128", "test.scales=[96]"]
    settings = [text for change in short for text in ("--set", change)]
    benchmark.main(["--out", str(tmp_path / "out"), "--page", str(page), "--images", "12", *settings])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    for name in benchmark.names():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
        assert ("| none |" in line) == (name.endswith("detector"))
