"""An inspection tells all of a recipe, and refuses one that cannot work."""

import io

import pytest
from rich.console import Console

from tests.tiny import TINY_DETECTOR, tiny_recipe
from tis_ray.config import load_recipe
from tis_ray.config.reading import SHIPPED_RECIPES
from tis_ray.errors import ConfigError
from tis_ray.inspection.assembled import Size
from tis_ray.inspection.costs import inspect, kept_bytes, largest_frame
from tis_ray.inspection.report import report

TINY_DATA = {"train": {"annotations": "unused.json"}, "scales": [64, 96], "max_long_edge": 200, "batch_size": 3}
C4 = {"neck": "c4", "anchors": {"exact": {"sizes": [[8, 16]]}}}


def shown(found, width: int) -> str:
    text = io.StringIO()
    for part in report(found):
        Console(width=width, file=text).print(part)
    return text.getvalue()


def test_views_and_a_training_step_are_told_in_tables_that_fit() -> None:
    told: list[tuple[int, int]] = []
    recipe = tiny_recipe(data=TINY_DATA, test={"scales": [64, 128], "flip": True})
    found = inspect(recipe, training=True, num_classes=5, on_progress=lambda *state: told.append(state))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [view.frames.network_hw for view in found.views] == [(64, 85), (128, 171)]
    assert found.views[0].flops["backbone"] < found.views[1].flops["backbone"]
    assert found.step is not None
    assert (found.step.network_hw, found.step.num_frames) == ((96, 128), 3)
    text = shown(found, 80)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("tiny: 5 classes; images of 640x480", "shufflenet_v2_x0_5", "171x128", "training step"):
        assert word in text


@pytest.mark.parametrize(("momentum", "workers", "copies"), [(0, 1, 1), (0.9, 1, 2), (0, 2, 2), (0.9, 8, 3)])
def test_weights_stay_with_momentum_and_with_gradients_that_workers_exchange(
    momentum: float, workers: int, copies: int
) -> None:
    recipe = tiny_recipe(schedule={"momentum": momentum}, resources={"workers": workers})
    sizes = [Size("backbone", 1000, 100, 4400), Size("neck", 500, 0, 2000)]
    assert kept_bytes(recipe, sizes) == 4 * (copies * 1500 + 100)
    averaged = tiny_recipe(schedule={"momentum": momentum, "ema_decay": 0.99}, resources={"workers": workers})
    assert kept_bytes(averaged, sizes) == 4 * (copies * 1500 + 100) + 6400


@pytest.mark.parametrize(
    ("changes", "frame_hw"),
    [
        pytest.param({}, (96, 128), id="the largest scale"),
        pytest.param({"max_long_edge": 100}, (75, 100), id="longer edge"),
        pytest.param({"regions": {"valid_training_region": {}}}, (96, 200), id="a region as long as may be"),
        pytest.param(
            {"regions": {"valid_training_region": {}}, "max_long_edge": None}, (96, 128), id="no longest edge"
        ),
    ],
)
def test_a_step_is_asked_for_at_its_largest_frame(changes: dict[str, object], frame_hw: tuple[int, int]) -> None:
    data = tiny_recipe(data=TINY_DATA | changes).data
    assert data is not None
    assert largest_frame(data, (480, 640)) == frame_hw


def test_training_needs_data() -> None:
    with pytest.raises(ConfigError, match="--training: expected a recipe with data"):
        inspect(tiny_recipe(data=None, test={"scales": [64]}), training=True)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        pytest.param({"neck": "fpm"}, "detector.neck: expected one of .* did you mean 'fpn'", id="misspelt"),
        pytest.param(
            {"neck": "c4", "anchors": "pyramid"}, "detector.anchors: .* five levels", id="anchors of a pyramid"
        ),
        pytest.param(
            C4 | {"roi_levels": "pyramid"}, "roi_levels: pyramid expects a neck of several levels", id="levels"
        ),
        pytest.param({"anchors": {"exact": {"sizes": [[8], [16]]}}}, "anchors: expected 5 levels", id="two of five"),
        pytest.param(
            {"backbone": {"shufflenet_v2_x0_5": {"deformable": True}}}, "deformable: unknown key", id="deformable"
        ),
        pytest.param(
            {"box": {"classification": {"group_softmax": {"bounds": [100, 10]}}}},
            "bounds: expected rising",
            id="groups",
        ),
        pytest.param(
            {"backbone": {"resnet18": {"weights": "nothing"}}}, "weights: expected weights as", id="unknown weights"
        ),
    ],
)
def test_what_cannot_work_is_refused(parts: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        inspect(tiny_recipe(detector=TINY_DETECTOR | parts))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(file.stem for file in SHIPPED_RECIPES.glob("*.yaml")))
def test_every_shipped_recipe_can_be_inspected_without_its_weights_and_data(name: str) -> None:
    found = inspect(load_recipe(name), image_hw=(480, 640), scales=[320], training=True)
    assert max(map(len, shown(found, 80).splitlines())) <= 80
    assert all(size.trained > 0 for size in found.sizes)
    assert 0 < found.views[0].bfloat16.num_bytes <= found.views[0].float32.num_bytes


def test_frozen_parts_learn_nothing_and_take_no_memory_for_it() -> None:
    recipe = tiny_recipe(data={"train": {"annotations": "x.json"}, "scales": [64]})
    schedule = recipe.schedule.model_copy(update={"frozen": ("backbone", "neck", "rpn")})
    whole, heads = (
        inspect(one, image_hw=(64, 96), training=True)
        for one in (recipe, recipe.model_copy(update={"schedule": schedule}))
    )
    assert {size.part for size in heads.sizes if size.trained} == {"box", "mask"}
    assert sum(size.trained + size.others for size in heads.sizes) == sum(
        size.trained + size.others for size in whole.sizes
    )
    assert whole.step is not None
    assert heads.step is not None
    assert heads.step.kept_bytes < whole.step.kept_bytes
    assert heads.step.float32.num_bytes < 0.7 * whole.step.float32.num_bytes
