"""A run that learns stuff beside its objects: maps are found, checked and learnt from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tis_ray.config import Recipe, WadFolder
from tis_ray.errors import ConfigError, DataError
from tis_ray.training.data import stuff_maps
from tis_ray.training.run import Worker, assemble, run
from tis_ray.training.trainer import train

STUFF = "detector.stuff={num_classes: 4, channels: 16, convs: 2, weight: 1}"


@pytest.fixture
def maps(rectangles: Path, tmp_path: Path) -> Path:
    """A folder of maps: what is red is 0, what is blue 1, grey 2 in the upper half and 3 below; image 7 has none."""
    folder = tmp_path / "stuff"
    folder.mkdir()
    for i in range(7):
        pixels = np.asarray(Image.open(rectangles.parent / f"{i}.png"))
        labels = np.where(np.arange(64)[:, None] < 32, 2, 3) * np.ones((64, 96), int)
        labels[pixels[..., 0] > 200], labels[pixels[..., 2] > 200] = 0, 1
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def make_stuff_recipe(maps: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(name: str = "stuff", *overrides: str) -> Recipe:
        return make_recipe(name, STUFF, f"data.train.stuff={maps}", *overrides)

    return make


def test_stuff_is_learnt(make_stuff_recipe: Callable[..., Recipe]) -> None:
    recipe = make_stuff_recipe("stuff", "schedule.epochs=3", "schedule.lr=0.03")
    run(recipe)
    events = EventAccumulator(str(recipe.run_dir / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss/stuff")]
    assert len(losses) == 12
    assert np.mean(losses[6:]) < 0.9 * np.mean(losses[:3]), losses


def test_maps_that_nobody_asks_for_are_left_alone(make_recipe: Callable[..., Recipe], maps: Path) -> None:
    (maps / "0.png").write_bytes(b"no map")
    job = assemble(make_recipe("toy", f"data.train.stuff={maps}"), Worker())
    assert all(one.stuff is None for batch in job.batches.epoch(0) for one in batch.annotations)


def test_a_recipe_for_stuff_needs_data_that_names_maps(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("toy", STUFF)
    for attempt in (lambda: train([recipe]), lambda: assemble(recipe, Worker())):
        with pytest.raises(ConfigError, match=r"^data\.train\.stuff: expected the folder of .* got none \(detector"):
            attempt()
    labels = WadFolder(labels="labels", images="images")
    with pytest.raises(ConfigError, match=r"^data\.train\.stuff: expected the folder of COCO-format data's"):
        stuff_maps(recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": labels})}))


def test_a_folder_that_is_not_there_is_told_before_ray_starts(make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(ConfigError, match=r"^data\.train\.stuff: expected a folder of label maps; got /nowhere$"):
        train([make_recipe("toy", STUFF, "data.train.stuff=/nowhere")])


def test_a_folder_of_other_maps_is_told_before_training(make_stuff_recipe: Callable[..., Recipe], maps: Path) -> None:
    recipe = make_stuff_recipe()
    for path in sorted(maps.iterdir()):
        shutil.move(path, path.with_stem(f"other_{path.stem}"))
    with pytest.raises(DataError, match=r"stuff: expected maps of stuff named as the 8 images are; there is none"):
        assemble(recipe, Worker())


def test_a_label_that_the_recipe_has_no_class_for_ends_the_run_by_name(
    make_stuff_recipe: Callable[..., Recipe],
) -> None:
    with pytest.raises(DataError, match=r"\d\.png: expected values 0 to 2, as detector\.stuff\.num_classes says"):
        run(make_stuff_recipe("stuff", "detector.stuff.num_classes=3"))
