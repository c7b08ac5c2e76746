"""What a run survives on a cluster of three nodes: it ends as if nothing had happened, to the bit.

Two workers train, each on a node of its own. Losses are those that TensorBoard shows, of every term in every step;
Gloo adds two workers' gradients in the one order there is.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.cluster import Driver, Nodes, first_worker_of, kill, workers_of
from tests.training.conftest import small_recipe
from tis_ray.config import Recipe
from tis_ray.training import run_folder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS, EVERY, STEPS = 4, 3, 4  # 8 images, one to a batch, are 4 steps of two workers in each epoch
LAST = EPOCHS * STEPS


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    folder = Path(tempfile.mkdtemp(prefix="ray_", dir="/tmp"))  # Ray's sockets need a short path
    try:
        with Nodes(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(nodes: Nodes, rectangles: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run that nothing has happened to."""
    recipe = two_workers(rectangles, tmp_path_factory.mktemp("whole"), "whole")
    with Driver(nodes, recipe) as driver:
        code, told = driver.end()
    assert code == 0, told
    return recipe


@pytest.fixture
def make(rectangles: Path, tmp_path: Path) -> Callable[..., Recipe]:
    return lambda name, *overrides: two_workers(rectangles, tmp_path, name, *overrides)


def two_workers(data: Path, folder: Path, name: str, *overrides: str) -> Recipe:
    schedule = (f"schedule.epochs={EPOCHS}", f"schedule.checkpoint_every_iterations={EVERY}")
    return small_recipe(data, folder / "runs", name, *schedule, "data.batch_size=1", "resources.workers=2", *overrides)


def curves(recipe: Recipe) -> dict[str, list[tuple[int, float]]]:
    """Every loss of every step, as TensorBoard shows them: what a run that was ended repeated once."""
    events = EventAccumulator(str(recipe.run_dir / "tensorboard")).Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith("loss/")]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def assert_ended_alike(recipe: Recipe, whole: Recipe) -> None:
    ended, other = (load_file(one.run_dir / "checkpoint" / "model.safetensors") for one in (recipe, whole))
    assert ended.keys() == other.keys()
    assert [key for key in ended if not torch.equal(ended[key], other[key])] == []
    losses = curves(recipe)
    assert [step for step, _ in losses["loss/total"]] == list(range(1, LAST + 1))
    assert losses == curves(whole)


def some_step(seed: int) -> int:
    """A step at which something happens, not quite the last."""
    step = random.Random(seed).randrange(1, LAST - 2)
    print(f"at step {step}, seed {seed}")
    return step


def test_workers_have_nodes_of_their_own(whole: Recipe):
    assert_ended_alike(whole, whole)


@pytest.mark.parametrize("seed", range(6))
def test_a_worker_killed_at_any_step(nodes, whole, make, seed):
    recipe, step = make("killed"), some_step(seed)
    with Driver(nodes, recipe) as driver:
        driver.until(lambda run: run["step"] >= step)
        found = workers_of(recipe)
        assert len(found) == 2
        kill(found[seed % 2])
        code, told = driver.end()
    assert code == 0, told
    assert_ended_alike(recipe, whole)
    assert "was lost" in told
    assert "; going on from the last checkpoint (1 of 3)" in told
    assert "with 2 workers" in told


@pytest.mark.parametrize("seed", [1, 2])
def test_a_node_that_is_gone_and_another_one_that_comes(nodes, whole, make, seed):
    recipe, step = make("moved"), some_step(seed)
    with Driver(nodes, recipe) as driver:
        driver.until(lambda run: run["step"] >= step)
        nodes.remove("second")
        driver.until(lambda run: run["state"].startswith("waiting for 2 workers"))
        nodes.add("second")
        code, told = driver.end()
    assert code == 0, told
    assert_ended_alike(recipe, whole)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_driver_that_is_killed_and_resumed(nodes, whole, make, seed):
    recipe, step = make("resumed"), some_step(seed)
    with Driver(nodes, recipe) as driver:
        driver.until(lambda run: run["step"] >= step)
    found = run_folder.newest(recipe.run_dir)
    for process in workers_of(recipe):  # they end by themselves, which may take Ray a while
        kill(process)
    with Driver(nodes, recipe, resume=True) as driver:
        code, told = driver.end()
    assert code == 0, told
    assert_ended_alike(recipe, whole)
    assert (found is None) == ("goes on after" not in told)


@pytest.fixture
def many(rectangles: Path, tmp_path: Path) -> Path:
    """A validation set of the same pictures over and over, which takes its time."""
    content = json.loads(rectangles.read_text())
    copies = range(0, 1600, 8)
    images = [image | {"id": image["id"] + first} for first in copies for image in content["images"]]
    boxes = [box | {"image_id": box["image_id"] + first} for first in copies for box in content["annotations"]]
    boxes = [box | {"id": i} for i, box in enumerate(boxes, start=1)]
    path = tmp_path / "many.json"
    path.write_text(json.dumps(content | {"images": images, "annotations": boxes}))
    return path


def test_the_first_worker_lost_while_it_validates(nodes, whole, make, rectangles, many):
    val = f"data.val={{annotations: '{many}', images: '{rectangles.parent}'}}"
    recipe = make("validated", val, "schedule.validate_every_epochs=2")
    with Driver(nodes, recipe) as driver:
        driver.until(lambda run: run["state"] == "validating")
        kill(first_worker_of(recipe))
        code, told = driver.end()
    assert code == 0, told
    assert "worker 0 on" in told
    assert_ended_alike(recipe, whole)
    assert driver.told[-1]["box_ap"] is not None


def test_a_run_that_may_take_fewer_workers_goes_on_with_those_that_are_left(nodes, make):
    recipe = make("elastic", "resources.workers=[1, 2]")
    with Driver(nodes, recipe) as driver:
        driver.until(lambda run: run["step"] >= 3)
        nodes.remove("second")
        code, told = driver.end()
    nodes.add("second")
    assert code == 0, told
    assert "with 1 worker" in told
    assert driver.told[-1]["step"] > LAST  # a worker alone makes twice as many steps for the same batches


def test_a_run_gives_up_when_too_many_workers_were_lost(nodes, make):
    recipe = make("unlucky", "resources.max_failures=1", "schedule.epochs=1000")
    with Driver(nodes, recipe) as driver:
        for step in (2, 6):
            driver.until(lambda run, step=step: run["state"] == "training" and run["step"] >= step)
            kill(workers_of(recipe)[0])
            driver.until(lambda run: run["state"] != "training") if step == 2 else None
        code, told = driver.end()
    assert code == 2
    last = told.strip().splitlines()[-1]
    assert last.startswith("error: unlucky: worker ")
    assert last.endswith(" after 1 restart (resources.max_failures); go on with --resume")


def test_runs_that_do_not_fit_at_once_wait_for_each_other(nodes, make):
    recipes = [make(name, "schedule.epochs=1") for name in ("one", "two", "three")]
    with Driver(nodes, *recipes) as driver:
        code, told = driver.end()
    assert code == 0, told
    for recipe in recipes:
        assert f"{recipe.name}: waiting for 2 workers (1 CPU each)" in told
        assert run_folder.finished(recipe.run_dir)
