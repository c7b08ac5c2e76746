"""Checkpoint directories: there and back, and what is said of those that do not fit."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import tis_ray
from tests.tiny import CATEGORIES, save_tiny_checkpoint, tiny_recipe
from tis_ray.errors import CheckpointError
from tis_ray.formats.training_sizes import TrainingSizes, read_training_sizes
from tis_ray.models import checkpoint


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def test_round_trip(folder: Path) -> None:
    detector, recipe, categories = checkpoint.load(folder)
    assert recipe == tiny_recipe()
    assert categories == CATEGORIES
    assert not detector.training
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, saved[key]) for key, value in detector.state_dict().items())


def test_training_sizes_are_kept_where_they_are_known(folder: Path) -> None:
    detector, recipe, categories = checkpoint.load(folder)
    assert read_training_sizes(folder) is None
    counted = replace(categories, counts=(5, 0, 7))
    sizes = TrainingSizes((1.5, 20.0, 300.0))
    checkpoint.save(folder, detector=detector, recipe=recipe, categories=counted, metrics={}, sizes=sizes)
    assert read_training_sizes(folder) == sizes
    assert checkpoint.load(folder)[2] == counted


def test_the_folder_itself_can_be_asked(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "own", test={"scales": [64, 96], "flip": True, "fusion": {"top_k": 3}})
    predictor = tis_ray.load(folder, device="cpu")
    assert [view.name for view in predictor.views] == ["tiny@64", "tiny@64/flip", "tiny@96", "tiny@96/flip"]
    found = predictor.predict(np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8))
    assert len(found) == 3


def test_a_member_of_unknown_scale_has_no_ensemble(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "elsewhere", data=None)
    assert not (folder / "ensemble.yaml").exists()


def test_backbone_weight_file_is_not_needed_again(tmp_path: Path) -> None:
    first = tmp_path / "imagenet.pth"
    from torchvision.models import shufflenet_v2_x0_5

    torch.save(shufflenet_v2_x0_5().state_dict(), first)
    detector = {**tiny_recipe().detector.model_dump(), "backbone": {"shufflenet_v2_x0_5": {"weights": str(first)}}}
    folder = save_tiny_checkpoint(tmp_path / "checkpoint", detector=detector)
    first.unlink()
    checkpoint.load(folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: expected a folder with categories\.json"):
        checkpoint.load(tmp_path / "nowhere")


def test_truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"expected weights in model\.safetensors"):
        checkpoint.load(folder)


def test_weights_of_another_recipe(folder: Path) -> None:
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    content["detector"]["box"]["head"] = {"mlp": {"hidden": 64}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match=r"does not fit recipe\.yaml.*should be .*; got"):
        checkpoint.load(folder)


def test_other_number_of_classes(folder: Path) -> None:
    entries = orjson.loads((folder / "categories.json").read_bytes())
    (folder / "categories.json").write_bytes(orjson.dumps(entries[:2]))
    with pytest.raises(CheckpointError, match=r"does not fit .*categories\.json"):
        checkpoint.load(folder)


def test_missing_weight(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["roi_heads.stages.0.head.fc6.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"fc6\.weight should be .*; got nothing"):
        checkpoint.load(folder)


def test_unknown_key_in_the_recipe(folder: Path) -> None:
    with (folder / "recipe.yaml").open("a") as file:
        file.write("colour: red\n")
    with pytest.raises(CheckpointError, match=r"colour: unknown key"):
        checkpoint.load(folder)
