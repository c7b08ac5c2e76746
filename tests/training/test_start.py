"""Where training begins: at random, or with another checkpoint's weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import shufflenet_v2_x0_5

from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Recipe
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.instances import Categories
from tis_ray.training.progress import RunProgress
from tis_ray.training.run import run
from tis_ray.training.run_folder import absolute, check
from tis_ray.training.start import first_detector
from tis_ray.training.trainer import train

THERE = Categories((1, 2, 3), ("azure", "car", "red"))
HERE = Categories((1, 2), ("red", "blue"))
Make = Callable[..., Recipe]


@pytest.fixture
def other(make_recipe: Make, tmp_path: Path) -> Path:
    """A checkpoint of the same parts as `make_recipe` has, for other classes."""
    detector = make_recipe().detector.model_dump()
    return save_tiny_checkpoint(tmp_path / "other", seed=5, categories=THERE, detector=detector)


def starting(other: Path, *overrides: str) -> list[str]:
    return [f"start.checkpoint={other}", "start.classes.blue=azure", *overrides]


def test_weights_are_those_of_the_checkpoint_and_a_line_says_so(make_recipe: Make, other: Path) -> None:
    detector, note = first_detector(make_recipe("toy", *starting(other)), HERE)
    given = load_file(other / "model.safetensors")
    own = detector.state_dict()
    assert torch.equal(own["backbone.body.conv1.0.weight"], given["backbone.body.conv1.0.weight"])
    layer = "roi_heads.stages.0.classifier.layer.weight"
    assert torch.equal(own[layer], given[layer][[0, 3, 1]])
    assert note == f"begins with weights of {other}, 2 of 2 classes among them"


def test_the_line_names_what_is_not_in_the_checkpoint(make_recipe: Make, other: Path) -> None:
    recipe = make_recipe("toy", f"start.checkpoint={other}", "detector.box.cascade={}")
    _, note = first_detector(recipe, HERE)
    assert note == (
        f"begins with weights of {other}, 1 of 2 classes among them; not from there: class blue; "
        "parts roi_heads.stages.0.regressor, roi_heads.stages.1, roi_heads.stages.2"
    )


def test_of_many_names_the_line_gives_the_first(make_recipe: Make, other: Path) -> None:
    many = Categories(tuple(range(1, 31)), tuple(f"class{i}" for i in range(30)))
    _, note = first_detector(make_recipe("toy", f"start.checkpoint={other}"), many)
    assert "0 of 30 classes among them; not from there: classes class0, class1, " in note
    assert note.endswith("class9 and 20 more")


def test_the_first_weights_are_the_same_on_every_worker(make_recipe: Make, other: Path) -> None:
    recipe = make_recipe("toy", f"start.checkpoint={other}", "detector.box.cascade={}")
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(first_detector(recipe, HERE)[0].state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_the_backbones_own_weights_are_read_only_where_the_checkpoint_has_another(
    make_recipe: Make, other: Path, tmp_path: Path
) -> None:
    missing = "detector.backbone.shufflenet_v2_x0_5.weights=gone.pth"
    first_detector(make_recipe("toy", *starting(other, missing)), HERE)
    state = {
        key: torch.full_like(value, 0.5) if value.is_floating_point() else value
        for key, value in shufflenet_v2_x0_5().state_dict().items()
    }
    save_file(state, tmp_path / "backbone.safetensors")
    foreign = save_tiny_checkpoint(
        tmp_path / "foreign",
        categories=THERE,
        detector={**make_recipe().detector.model_dump(), "backbone": "resnet18"},
    )
    present = missing.replace("gone.pth", str(tmp_path / "backbone.safetensors"))
    detector, note = first_detector(make_recipe("toy", f"start.checkpoint={foreign}", present), HERE)
    assert detector.backbone.body.conv1[0].weight.unique().tolist() == [0.5]
    assert "parts backbone, " in note


def test_a_checkpoint_of_which_nothing_fits_is_refused(make_recipe: Make, tmp_path: Path) -> None:
    parts = {"backbone": "resnet18", "neck": {"fpn": {"channels": 8}}, "mask": None, "rpn": {"convs": 2}}
    box = {"box": {"head": {"mlp": {"hidden": 24}}, "class_agnostic": True}}
    foreign = save_tiny_checkpoint(
        tmp_path / "foreign", categories=THERE, detector={**make_recipe().detector.model_dump(), **parts, **box}
    )
    unlike = ["detector.neck.fpn.channels=32", "detector.anchors.exact.aspect_ratios=[0.5, 2]"]
    recipe = make_recipe("toy", f"start.checkpoint={foreign}", "start.classes={red: null}", *unlike)
    with pytest.raises(CheckpointError, match=r"start\.checkpoint: expected some weights .* in .*foreign; it has none"):
        first_detector(recipe, HERE)


def test_a_folder_that_is_no_checkpoint_is_refused_before_ray_starts(make_recipe: Make, tmp_path: Path) -> None:
    recipe = make_recipe("toy", f"start.checkpoint={tmp_path / 'nowhere'}")
    with pytest.raises(ConfigError, match=r"^start\.checkpoint: expected the folder of a checkpoint; got .*nowhere"):
        train([recipe])
    assert not recipe.run_dir.exists()


def test_a_resumed_run_goes_on_and_needs_the_other_checkpoint_no_more(
    make_recipe: Make, other: Path, run_until: Callable[[Recipe, int], None]
) -> None:
    whole, cut = (make_recipe(name, *starting(other)) for name in ("whole", "cut"))
    told: list[RunProgress] = []
    run(whole, tell=told.append)
    assert {progress.note for progress in told} == {f"begins with weights of {other}, 2 of 2 classes among them"}
    run_until(cut, 5)
    other.rename(other.with_name("moved"))
    run(cut, tell=told.append)
    assert told[-1].note == ""
    first, second = (load_file(one.run_dir / "checkpoint_000002" / "model.safetensors") for one in (whole, cut))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_the_folder_becomes_absolute_and_a_resumed_run_keeps_it(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = absolute(make_recipe("toy", "start.checkpoint=coco"))
    assert recipe.start is not None
    assert recipe.start.checkpoint == tmp_path / "coco"
    (recipe.run_dir / "checkpoint_000001").mkdir(parents=True)
    (recipe.run_dir / "recipe.yaml").write_text(recipe.model_dump_json())
    check(recipe, resume=True)
    with pytest.raises(ConfigError, match=r"^start\.checkpoint: expected '.*coco', with which the run"):
        check(absolute(make_recipe("toy", "start.checkpoint=lvis")), resume=True)
