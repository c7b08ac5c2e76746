"""A recipe's values are judged when it is read: nothing that can only fail later, or silently do harm, gets in."""

import pytest

from tests.tiny import TINY_DETECTOR
from tis_ray.config import Recipe, load_recipe, parse
from tis_ray.config.reading import SHIPPED_RECIPES
from tis_ray.errors import ConfigError

CONTENT = {"name": "x", "data": {"train": {"annotations": "x.json"}}, "detector": TINY_DETECTOR}

WRONG = [
    ("name=..", "name"),
    ("data.scales=[0]", "data.scales.0"),
    ("data.scales=[]", "data.scales"),
    ("data.max_long_edge=-3", "data.max_long_edge"),
    ("data.batch_size=0", "data.batch_size"),
    ("detector.rpn.positive_iou=7", "detector.rpn.positive_iou"),
    ("detector.rpn={positive_iou: 0.2, negative_iou: 0.3}", "detector.rpn: expected negative_iou <= positive_iou"),
    ("detector.box.pool_size=-1", "detector.box.pool_size"),
    ("detector.rpn.convs=0", "detector.rpn.convs"),
    ("detector.mask.norm=frozen", "detector.mask.norm"),
    ("detector.roi_levels=cascade", "detector.roi_levels"),
    ("detector.box.score_threshold=2", "detector.box.score_threshold"),
    ("detector.box.max_instances=-1", "detector.box.max_instances"),
    ("detector.mask.channels=[]", "detector.mask.channels"),
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
    ("seed=-1", "seed"),
]


@pytest.mark.parametrize(("override", "key"), WRONG, ids=[override for override, _ in WRONG])
def test_values_that_cannot_work_are_refused_by_name(override: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(Recipe, CONTENT, [override], source="r.yaml")
    assert str(error.value).startswith(f"r.yaml: {key}")


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_RECIPES.glob("*.yaml")))
def test_shipped_recipes_are_valid_and_named_after_their_file(name: str) -> None:
    assert load_recipe(name).name == name
