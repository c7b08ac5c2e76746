"""A run over label images: regions to ignore and the valid training region included, and resumed bit by bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image
from safetensors.torch import load_file

from tis_ray.config import Recipe
from tis_ray.errors import DataError
from tis_ray.training import run_folder
from tis_ray.training.run import run

REGION = "data.regions.valid_training_region={probability: 0.5, margin: [0, 20]}"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`labels/`, `images/` and `lists/`: 6 frames of 300x400 px with red cars, blue people and regions to ignore."""
    folder = tmp_path_factory.mktemp("frames")
    for name in ("labels", "images", "lists"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        labels = np.full((300, 400), 255, dtype=np.uint16)
        pixels = np.full((300, 400, 3), 40, dtype=np.uint8)
        for number, (value, colour) in enumerate([(33000, (250, 30, 30)), (36000, (30, 30, 250))]):
            x, y = rng.integers(0, 300), rng.integers(0, 200)
            labels[y : y + 60, x : x + 60] = value + number
            pixels[y : y + 60, x : x + 60] = colour
        labels[280:300, 0:100] = 65535
        Image.fromarray(labels).save(folder / "labels" / f"f{i}_Camera_5_instanceIds.png")
        Image.fromarray(pixels).save(folder / "images" / f"f{i}_Camera_5.jpg")
    for name, numbers in (("train", range(4)), ("val", (4, 5))):
        lines = [f"road01_ins\\ColorImage\\Record011\\Camera 5\\f{i}_Camera_5.jpg" for i in numbers]
        (folder / "lists" / f"{name}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def make_wad_recipe(frames: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(name: str, *overrides: str) -> Recipe:
        folders = f"labels: '{frames}/labels', images: '{frames}/images'"
        data = [f"data.{part}={{{folders}, frames: '{frames}/lists/{part}.txt'}}" for part in ("train", "val")]
        return make_recipe(name, *data, REGION, "data.scales=[48, 64]", "schedule.epochs=2", *overrides)

    return make


def _written(recipe: Recipe, epoch: int) -> Path:
    return recipe.run_dir / f"checkpoint_{epoch:06d}"


def test_a_cut_run_over_label_images_ends_with_the_same_weights_and_scores(make_wad_recipe, run_until):
    whole, cut = make_wad_recipe("whole"), make_wad_recipe("cut")
    run(whole)
    run_until(cut, 3)
    assert run_folder.newest(cut.run_dir)[1] == (1, 0)
    run(cut)
    expected, found = (load_file(_written(recipe, 2) / "model.safetensors") for recipe in (whole, cut))
    assert all(expected[key].equal(found[key]) for key in expected)
    metrics = orjson.loads((_written(whole, 2) / "metrics.json").read_bytes())
    assert {"box_ap", "mask_ap"} <= metrics.keys()
    names = [entry["name"] for entry in orjson.loads((_written(whole, 2) / "categories.json").read_bytes())]
    assert names == ["car", "motorbicycle", "bicycle", "person", "truck", "bus", "tricycle"]


def test_a_picture_of_another_size_than_its_labels_is_named(frames, make_wad_recipe, tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(6):
        Image.new("RGB", (400, 299)).save(tmp_path / "images" / f"f{i}_Camera_5.jpg")
    with pytest.raises(DataError, match=r"f\d_Camera_5\.jpg: expected 400x300 pixels .*; got 400x299"):
        run(make_wad_recipe("toy", f"data.train.images={tmp_path / 'images'}"))


def test_missing_pictures_are_counted_before_training(make_wad_recipe, tmp_path):
    with pytest.raises(DataError, match="4 of its 4 image files are missing"):
        run(make_wad_recipe("toy", f"data.train.images={tmp_path}"))
