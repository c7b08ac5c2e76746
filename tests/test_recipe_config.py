"""A recipe's values are judged when it is read: nothing that can only fail later, or silently do harm, gets in."""

from pathlib import Path

import pytest
import yaml

from tests.tiny import TINY_DETECTOR
from tis_ray.config import Ensemble, Recipe, dump, dump_views, load_ensemble, load_recipe, parse
from tis_ray.config.reading import SHIPPED_RECIPES
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser
from tis_ray.views import View

CONTENT = {"name": "x", "data": {"train": {"annotations": "x.json"}}, "detector": TINY_DETECTOR}

WRONG = [
    ("name=..", "name"),
    ("data.scales=[0]", "data.scales.0"),
    ("data.scales=[]", "data.scales"),
    ("data.max_long_edge=-3", "data.max_long_edge"),
    ("data.batch_size=0", "data.batch_size"),
    ("detector.rpn.nms_iou_train=1", "detector.rpn.nms_iou_train"),
    ("detector.box={cascade: {ious: []}}", "detector.box.cascade.ious"),
    ("detector.box={cascade: {loss_weights: [1, 1]}}", "detector.box.cascade: loss_weights: expected 3"),
    ("detector.box={cascade: {}, class_agnostic: false}", "detector.box: class_agnostic: expected true or nothing"),
    ("detector.rpn.positive_fraction=0", "detector.rpn: positive_fraction: expected room for a positive among 32"),
    ("detector.box={samples_per_image: 3}", "detector.box: positive_fraction: expected room for a positive among 3"),
    ("detector.box={context: {factor: 1}}", "detector.box.context.factor"),
    ("detector.box.pool_size=-1", "detector.box.pool_size"),
    ("detector.rpn.convs=0", "detector.rpn.convs"),
    ("detector.roi_levels=cascade", "detector.roi_levels"),
    ("detector.box.score_threshold=2", "detector.box.score_threshold"),
    ("detector.box.max_instances=-1", "detector.box.max_instances"),
    ("detector.mask.area_ratio={beta: 0}", "detector.mask.area_ratio.beta"),
    ("detector.mask.rescore={convs: 0}", "detector.mask.rescore.convs"),
    ("detector.mask.cascade={}", "detector: mask.cascade: expected box.cascade beside it"),
    ("detector.stuff={num_classes: 1}", "detector.stuff.num_classes"),
    ("detector.stuff={weight: .inf}", "detector.stuff.weight"),
    ("detector.box={cascade: {loss_weights: [1, .inf, 1]}}", "detector.box.cascade.loss_weights.1"),
    ("detector.pixel_mean=[0, 0, .nan]", "detector.pixel_mean.2"),
    ("detector.mask.pool_size=0", "detector.mask.pool_size"),
    ("detector.pixel_std=[0, 0, 0]", "detector.pixel_std.0"),
    ("schedule.momentum=5", "schedule.momentum"),
    ("schedule.lr=.inf", "schedule.lr"),
    ("schedule.gamma=-1", "schedule.gamma"),
    ("schedule.milestones=[5, 2]", "schedule: expected rising milestones"),
    ("schedule.clip_grad_norm=-1", "schedule.clip_grad_norm"),
    ("resources.workers=0", "resources.workers"),
    ("resources.gpus_per_worker=-2", "resources.gpus_per_worker"),
    ("resources.activation_checkpointing=often", "resources.activation_checkpointing"),
    ("start={}", "start.checkpoint: this key is required"),
    ("start={checkpoint: coco, classes: {car: [1]}}", "start.classes.car"),
    ("seed=-1", "seed"),
    ("test={flip: true}", "test: scales: expected at least one, here or under crops"),
    ("test={scales: [0]}", "test.scales: expected different shorter edges"),
    ("test={scales: [64], checkpoint: x}", "test.checkpoint: unknown key"),
    ("test={scales: [64], fusion: {top_k: 0}}", "test.fusion.top_k"),
    ("test={scales: [64], fusion: {ranges: {'@65': [0, 9]}}}", "test: fusion.ranges.@65: expected one of @64, x@64"),
    ("test={scales: [64], fusion: {members: {y: {}}}}", "test: fusion.members.y: expected one of x"),
]


@pytest.mark.parametrize(("override", "key"), WRONG, ids=[override for override, _ in WRONG])
def test_values_that_cannot_work_are_refused_by_name(override: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(Recipe, CONTENT, [override], source="r.yaml")
    assert str(error.value).startswith(f"r.yaml: {key}")


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_RECIPES.glob("*.yaml")))
def test_shipped_recipes_are_valid_and_named_after_their_file(name: str) -> None:
    assert load_recipe(name).name == name


def recipe(**content: object) -> Recipe:
    return parse(Recipe, {**CONTENT, **content}, source="r.yaml")


def test_without_a_word_the_last_training_scale_is_tested_not_mirrored() -> None:
    data = {"train": {"annotations": "x.json"}, "scales": [480, 600], "max_long_edge": 1692}
    ensemble = recipe(data=data).ensemble()
    assert ensemble is not None
    assert ensemble.views == (View("x", 600, max_long_edge=1692),)
    assert recipe(data=None).ensemble() is None


DEFAULT_RULES = [{"nms": {"iou_threshold": 0.5}}]
TESTS = {
    "scales": {"scales": [64, 96], "max_long_edge": None, "flip": False},
    "preset": {"preset": "megdet", "fusion": "megdet"},
    "preset with changes": {"preset": "tis", "flip": False, "fusion": {"preset": "tis", "top_k": 300}},
    "default rules beside a preset": {"scales": [64], "fusion": {"preset": "tis", "rules": DEFAULT_RULES}},
    "ranges of some scales": {"scales": [400, 800], "fusion": "lvis"},
    "automatic ranges": {"scales": [400, 800], "fusion": {"ranges": "auto", "rare_boost": {}}},
    "crops and groups": {
        "crops": {"grid": {"tiles": {"width": 90, "height": 40, "overlap": 20}, "scales": [80]}},
        "groups": {"tiled": ["80.grid"]},
        "fusion": {"ranges": {"x@80.grid": [0, 40]}, "members": {"x": {"calibration": {"temperature": {"t": 2}}}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_the_file_beside_a_checkpoint_asks_for_what_the_recipe_says(test: dict, tmp_path: Path) -> None:
    made = recipe(test=test)
    assert parse(Recipe, dump(made), source="dump") == made
    ensemble = made.ensemble()
    assert ensemble is not None
    views = {key: value for key, value in test.items() if key != "fusion"}
    content = {"members": {"x": {"checkpoint": ".", **views}}, "fusion": test.get("fusion", {})}
    written_by_hand = parse(Ensemble, content, source="by hand")
    assert ensemble.views == written_by_hand.views
    assert ensemble.deployments == written_by_hand.deployments

    (tmp_path / "ensemble.yaml").write_text(yaml.safe_dump(dump_views(ensemble)))
    for path in (tmp_path / "ensemble.yaml", tmp_path):
        read = load_ensemble(path)
        assert read.views == ensemble.views
        assert read.deployments == ensemble.deployments
        assert read.members["x"].checkpoint == tmp_path
        assert read.fusion.model_copy(update={"preset": None}) == written_by_hand.fusion.model_copy(
            update={"preset": None}
        )


@pytest.mark.parametrize("mask", [None, {"only_in_training": True}, {}])
@pytest.mark.parametrize("fusion", ["tis", "megdet", {"rules": DEFAULT_RULES}])
def test_a_detector_without_masks_is_asked_for_no_second_pass(mask: object, fusion: object) -> None:
    detector = {**CONTENT["detector"], "mask": mask}
    ensemble = recipe(detector=detector, test={"scales": [64], "fusion": fusion}).ensemble()
    assert ensemble is not None
    assert ensemble.fusion.second_pass == (mask == {} and isinstance(fusion, str))
    read = parse(Ensemble, dump_views(ensemble), source="ensemble.yaml")
    Fuser.of(read, None, sizes={}, maskless=[] if mask == {} else ["x"])


def test_a_folder_without_an_ensemble_is_refused_by_the_file_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ensemble\.yaml: expected a readable YAML file"):
        load_ensemble(tmp_path)
