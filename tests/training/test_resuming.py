"""Runs that are cut anywhere and resumed end as uninterrupted ones do, to the bit; with other numbers of workers they
go on where the others stopped.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from tis_ray.config import dump, parse
from tis_ray.config.recipe import Recipe
from tis_ray.data.loading import Batches
from tis_ray.errors import ConfigError
from tis_ray.training import run_folder
from tis_ray.training.run import Worker, assemble, run

pytestmark = pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides")  # of 1x1 convolutions

EVERY = "schedule.checkpoint_every_iterations=1"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process, in which it may take the part of one of several workers."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def names(recipe: Recipe) -> list[str]:
    return sorted(path.name for path in recipe.run_dir.glob("checkpoint_*"))


def assert_ended_alike(one: Recipe, other: Recipe) -> None:
    (left, position), (right, reached) = run_folder.newest(one.run_dir), run_folder.newest(other.run_dir)
    assert position == reached
    for file in ("model.safetensors", run_folder.STATE):
        states = [
            load_file(folder / file) if file.endswith("tensors") else torch.load(folder / file, weights_only=True)
            for folder in (left, right)
        ]
        assert_same(*states)
    assert json.loads((left / "metrics.json").read_bytes()) == json.loads((right / "metrics.json").read_bytes())


def assert_same(left: object, right: object) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        for pair in zip(left, right, strict=True):
            assert_same(*pair)
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


@pytest.mark.parametrize(
    "options",
    [
        ["schedule.epochs=2"],
        ["schedule.epochs=2", "schedule.accumulate=3", "schedule.ema_decay=0.9"],
        [
            "schedule={iterations: 7, milestones: [3, 5], warmup_iterations: 2, lr: 0.01, clip_grad_norm: 5}",
            "schedule.ema_decay=0.5",
            "detector.backbone={resnet18: {norm: batch}}",
            "schedule.frozen=[backbone]",
        ],
    ],
    ids=["epochs", "accumulated and averaged", "iterations, a frozen part"],
)
def test_a_run_cut_at_any_step_ends_with_the_same_bits(make_recipe, rectangles, run_until, options):
    data = f"data.val={{annotations: '{rectangles}'}}"
    whole = make_recipe("whole", data, *options)
    steps = []
    run(whole, tell=lambda progress: steps.append(progress.step))
    at = random.randrange(1, max(steps))
    cut = make_recipe("cut", data, *options, EVERY)
    run_until(cut, at)
    print(f"cut at step {at} of {max(steps)}")
    found = run_folder.newest(cut.run_dir)
    assert found is not None or at == 1
    run(cut)
    assert_ended_alike(whole, cut)


def test_checkpoints_inside_an_epoch_come_as_often_as_asked_and_every_rank_reports_alike(make_recipe, alone):
    """Epochs of 4 batches: of two workers with a rate for two, 2 iterations."""
    options = ["schedule.epochs=2", "schedule.checkpoint_every_iterations=3"]
    reports = {}
    for rank, name in ((0, "first"), (1, "second")):
        recipe = make_recipe(name, *options, "data.batch_size=1", "resources.workers=2")
        worker = Worker(rank=rank, world_size=2)
        got = reports[rank] = []
        run(recipe, worker=worker, report=lambda metrics, folder, got=got: got.append((metrics, folder)))
    assert [folder.name for _, folder in reports[0]] == [
        "checkpoint_000000.0000006", "checkpoint_000001", "checkpoint_000001.0000004", "checkpoint_000002"
    ]  # fmt: skip
    assert {folder for _, folder in reports[1]} == {None}
    own = [(metrics["epoch"], metrics["step"]) for metrics, _ in reports[0]]
    assert own == [(metrics["epoch"], metrics["step"]) for metrics, _ in reports[1]]
    assert own == [(0, 3), (1, 4), (1, 6), (2, 8)]


def test_a_folder_of_an_earlier_version_is_gone_on_with(make_recipe):
    whole, begun = make_recipe("whole"), make_recipe("begun")
    run(whole)
    run(make_recipe("begun", "schedule.epochs=1"))
    state = begun.run_dir / "checkpoint_000001" / run_folder.STATE
    content = torch.load(state, weights_only=True)
    torch.save({key: content[key] for key in ("optimizer", "epoch", "step")}, state)
    run(begun)
    assert_ended_alike(whole, begun)


def test_fewer_workers_go_on_at_the_same_batch_with_a_rate_to_match(make_recipe, alone, run_until, monkeypatch):
    recipe = make_recipe("toy", "data.batch_size=1", "resources.workers=[1, 2]", EVERY, "schedule.lr=0.008")
    first = Worker(world_size=2)
    run_until(recipe, 2, worker=first)  # 4 of 8 batches; the checkpoint of the second step is not yet there
    assert run_folder.newest(recipe.run_dir)[1] == (0, 2)
    asked = []
    epoch = Batches.epoch
    monkeypatch.setattr(Batches, "epoch", lambda self, number, *, start=0: (
        asked.append((number, start, self.world_size)), epoch(self, number, start=start)
    )[1])  # fmt: skip
    job = assemble(recipe, Worker())
    assert (job.position, job.step) == ((0, 2), 1)
    assert job.learning_rate(100) == 0.004
    assert assemble(recipe, first).learning_rate(100) == 0.008
    told = []
    run(recipe, tell=told.append)
    assert asked == [(0, 2, 1), (1, 0, 1)]
    assert told[0].step == 1
    assert {progress.total_steps for progress in told} == {1 + 6 + 8}
    assert told[-1].step == 15
    assert run_folder.newest(recipe.run_dir)[1] == (2, 0)


def test_a_run_by_iterations_ends_inside_an_epoch_with_all_that_an_end_has(make_recipe, rectangles):
    schedule = "schedule={iterations: 6, milestones: [2, 4], gamma: 0.5, warmup_iterations: 0, lr: 0.008}"
    recipe = make_recipe("toy", schedule, f"data.val={{annotations: '{rectangles}'}}")
    reports, rates = [], []
    job = assemble(recipe, Worker())
    rates = [job.learning_rate(iteration) for iteration in range(6)]
    assert rates == [0.008, 0.008, 0.004, 0.004, 0.002, 0.002]
    run(recipe, report=lambda metrics, folder: reports.append((metrics, folder.name)))
    assert [name for _, name in reports] == ["checkpoint_000001", "checkpoint_000001.0000002"]
    assert "box_ap" in reports[-1][0]
    assert reports[-1][0]["step"] == 6
    again = []
    run(recipe, report=lambda *report: again.append(report))
    assert again == []


def test_iterations_need_milestones_of_their_own_and_no_epochs(make_recipe):
    content = dump(make_recipe())
    for schedule, message in (
        ({"iterations": 5}, "schedule: expected milestones"),
        ({"iterations": 5, "milestones": [], "epochs": 3}, "schedule: expected epochs or iterations; got both"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse(Recipe, content | {"schedule": schedule}, source="test")


def test_a_recipe_by_iterations_is_read_as_it_was_written(make_recipe):
    recipe = make_recipe("toy", "schedule={iterations: 5, milestones: [3]}")
    assert parse(Recipe, dump(recipe), source="test") == recipe
    assert "epochs" not in dump(recipe)["schedule"]


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (["schedule.lr_batch_size=16"], 0.02 * 2 / 16),
        (["schedule.lr_batch_size=16", "schedule.accumulate=4", "resources.workers=[1, 2]"], 0.02 * 2 * 2 * 4 / 16 / 2),
        ([], 0.02),
    ],
    ids=["one worker", "accumulated, one of two workers", "as it stands"],
)
def test_rates_are_scaled_linearly_to_the_batch(make_recipe, options, rate):
    job = assemble(make_recipe("toy", "schedule.lr=0.02", *options), Worker())
    assert job.learning_rate(1000) == pytest.approx(rate, rel=1e-12)


def test_losses_of_an_unfinished_epoch_are_kept(make_recipe, run_until):
    recipe = make_recipe("toy", "schedule.epochs=1", EVERY)
    run_until(recipe, 3)
    (folder, position) = run_folder.newest(recipe.run_dir)
    assert position == (0, 2)
    mean = json.loads((folder / "metrics.json").read_bytes())["loss"]
    job = assemble(recipe, Worker())
    assert (job.loss_sum / job.loss_count, job.loss_count) == (mean, 2)
