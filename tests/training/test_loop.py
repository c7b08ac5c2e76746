"""Training in one process, without Ray: it learns, repeats itself, resumes and refuses to diverge."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, nn

from tis_ray.data.loading import Batch
from tis_ray.errors import CheckpointError, ConfigError, DataError
from tis_ray.formats.categories import read_categories
from tis_ray.formats.training_sizes import read_training_sizes
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.training import run_folder
from tis_ray.training.loop import DivergenceError, check_weights, train_epoch
from tis_ray.training.optim import build_optimizer
from tis_ray.training.run import run


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def nothing() -> Annotations:
    return Annotations(
        np.zeros((0, 4), np.float32), np.zeros(0, np.int32), CropMasks.from_rle([]), np.zeros(0, np.bool_)
    )


class Noisy(nn.Module):
    """A model whose loss is weight * mean + noise, to look at the loop alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def forward(self, images, _targets):
        mean = torch.stack([image.float().mean() for image in images]).mean()
        return {"loss_fit": (self.weight * mean).sum(), "loss_noise": torch.rand(()) * self.weight.sum() * 0}


def batches_of(values):
    return [
        Batch([torch.full((3, 4, 4), value, dtype=torch.uint8)], [nothing()], [index])
        for index, value in enumerate(values)
    ]


def epoch(model, batches, **options):
    optimizer = build_optimizer(model, lr=1.0, momentum=0.0, weight_decay=0.0)
    settings = {"first_step": 0, "seed": 0, "device": torch.device("cpu")} | options
    return list(train_epoch(model, batches, optimizer, lambda step: 0.1 / (step + 1), **settings))


def test_steps_follow_the_schedule_and_report_losses():
    model = Noisy()
    steps = epoch(model, batches_of([2, 3]), first_step=4)
    assert [step.step for step in steps] == [5, 6]
    assert [step.lr for step in steps] == pytest.approx([0.1 / 5, 0.1 / 6])
    assert steps[0].losses["loss_fit"] == pytest.approx(2.0)
    assert steps[1].loss == pytest.approx((1 - 0.02 * 2) * 3)
    assert model.weight.item() == pytest.approx(1 - 0.02 * 2 - 0.1 / 6 * 3)
    assert all(step.seconds >= step.data_wait_s >= 0 for step in steps)


def test_a_step_of_several_batches_learns_from_the_mean_of_their_losses():
    """The last group is smaller; a batch that counts half counts half in what is reported too."""
    model = Noisy()
    batches = batches_of([2, 4, 3])
    batches[1] = batches[1]._replace(loss_weight=0.5)
    rates = []
    steps = epoch(model, batches, accumulate=2, after_step=lambda: rates.append(model.weight.item()))
    assert [(step.step, step.batches, step.images) for step in steps] == [(1, 2, 2), (2, 1, 1)]
    gradient = (2 + 4 * 0.5) / 2
    assert steps[0].losses == pytest.approx({"loss_fit": gradient, "loss_noise": 0})
    assert rates[0] == pytest.approx(1 - 0.1 * gradient)
    assert steps[1].loss == pytest.approx(rates[0] * 3)
    assert model.weight.item() == rates[1] == pytest.approx(rates[0] - 0.05 * 3)


def test_every_batch_of_a_step_has_a_chance_of_its_own():
    class Recorder(Noisy):
        def forward(self, images, targets):
            self.drawn = [*getattr(self, "drawn", []), torch.rand(()).item()]
            return super().forward(images, targets)

    drawn = {}
    for accumulate in (1, 2):
        model = Recorder()
        epoch(model, batches_of([1, 1, 1, 1]), accumulate=accumulate)
        drawn[accumulate] = model.drawn
    assert len({*drawn[1], *drawn[2]}) == 6
    assert drawn[2][::2] == drawn[1][:2]  # the first batch of a step as when it has but one


def test_workers_exchange_gradients_once_a_step(tmp_path):
    """In a group of one; its model's answer is that without a group."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        plain, model = Noisy(), nn.parallel.DistributedDataParallel(Noisy())
        exchanged = []

        def exchange(_, bucket):
            exchanged.append(bucket.buffer().clone())
            return torch.futures.collect_all([]).then(lambda _: bucket.buffer())

        model.register_comm_hook(None, exchange)
        for one in (plain, model):
            epoch(one, batches_of([2, 4, 3, 5, 6]), accumulate=2)
        assert len(exchanged) == 3
        assert exchanged[0].item() == pytest.approx((2 + 4) / 2)
        assert model.module.weight.item() == plain.weight.item()
    finally:
        distributed.destroy_process_group()


def test_gradients_are_clipped():
    model = Noisy()
    epoch(model, batches_of([50]), clip_grad_norm=0.5)
    assert model.weight.item() == pytest.approx(1 - 0.1 * 0.5, rel=1e-4)


def test_chance_of_a_step_depends_on_seed_step_and_rank_alone():
    class Recorder(Noisy):
        def forward(self, images, targets):
            self.drawn = [*getattr(self, "drawn", []), torch.rand(()).item()]
            return super().forward(images, targets)

    def drawn(values, **options):
        model = Recorder()
        epoch(model, batches_of(values), **options)
        return model.drawn

    whole = drawn([1, 1, 1])
    assert drawn([1, 1], first_step=1) == whole[1:]
    assert drawn([1, 1, 1], rank=1) != whole
    assert drawn([1, 1, 1], seed=1) != whole


def test_a_loss_that_is_not_finite_names_the_images_and_leaves_the_weights():
    model = Noisy()
    with torch.no_grad():
        model.weight.fill_(math.inf)
    batch = Batch([torch.ones((3, 4, 4), dtype=torch.uint8)] * 2, [nothing()] * 2, [17, 23])
    with pytest.raises(DivergenceError, match=r"loss_fit=inf.* on images 17, 23; "):
        epoch(model, [batch])
    with pytest.raises(DivergenceError, match=r" on images 17, 23 of data\.external; "):
        epoch(model, [batch._replace(external=True)])
    assert model.weight.item() == math.inf
    with pytest.raises(DivergenceError, match="weight is no longer finite"):
        check_weights(model)


def weights(recipe, epochs):
    return load_file(recipe.run_dir / f"checkpoint_{epochs:06d}" / "model.safetensors")


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


def metrics(recipe, epochs):
    return json.loads((recipe.run_dir / f"checkpoint_{epochs:06d}" / "metrics.json").read_bytes())


def test_the_loss_falls(make_recipe, rectangles):
    recipe = make_recipe("toy", "schedule.epochs=8", "schedule.lr=0.02")
    told = []
    run(recipe, tell=told.append)
    folder = recipe.run_dir / "checkpoint_000008"
    entries = json.loads(rectangles.read_bytes())["annotations"]
    reds = sum(entry["category_id"] == 1 for entry in entries)
    assert read_categories(folder).counts == (reds, len(entries) - reds)
    sides = [entry["bbox"][2] for entry in entries]
    assert read_training_sizes(folder).at(0) == pytest.approx(48 / 64 * min(sides))
    assert read_training_sizes(folder).at(1) == pytest.approx(max(sides))
    assert metrics(recipe, 8)["loss"] < 0.6 * metrics(recipe, 1)["loss"]
    assert [progress.step for progress in told if progress.loss is not None][-1] == 32
    assert told[-1].state == "finished"
    assert list((recipe.run_dir / "tensorboard").iterdir())


def test_a_run_that_is_cut_and_resumed_ends_with_the_same_weights(make_recipe, rectangles, run_until):
    """Validation comes in between, and must not touch the training either."""
    data = (f"data.val={{annotations: '{rectangles}'}}", "schedule.epochs=2", "schedule.lr=0.02")
    whole, cut = make_recipe("whole", *data), make_recipe("cut", *data)
    run(whole)
    run_until(cut, 6)
    assert run_folder.newest(cut.run_dir)[1] == (1, 0)
    reported = []
    run(cut, report=lambda metrics, folder: reported.append((metrics["epoch"], folder.name)))
    assert reported == [(2, "checkpoint_000002")]
    assert_same(weights(whole, 2), weights(cut, 2))
    assert metrics(whole, 2) == metrics(cut, 2)
    assert set(metrics(whole, 2)) >= {"box_ap", "mask_ap", "loss", "epoch", "step"}


def test_recomputed_activations_end_with_the_same_weights_even_when_cut_and_resumed(make_recipe, run_until):
    kept, recomputed = make_recipe("kept"), make_recipe("recomputed", "resources.activation_checkpointing=true")
    run(kept)
    run_until(recomputed, 6)
    run(recomputed)
    assert_same(weights(kept, 2), weights(recomputed, 2))


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 torn"], ids=["empty", "garbage", "torn"])
def test_a_damaged_training_state_names_its_checkpoint(make_recipe, content):
    run(make_recipe("toy", "schedule.epochs=1"))
    resumed = make_recipe("toy", "schedule.epochs=2")
    folder = resumed.run_dir / "checkpoint_000001"
    (folder / run_folder.STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^checkpoint {folder}: training_state.pt cannot be read") as caught:
        run(resumed)
    assert "\n" not in str(caught.value)


def test_a_diverging_run_keeps_its_last_good_checkpoint(make_recipe):
    run(make_recipe("toy", "schedule.epochs=1"))
    bad = make_recipe("toy", "schedule.epochs=4", "schedule.lr=1e12", "schedule.clip_grad_norm=null")
    with pytest.raises(DivergenceError):
        run(bad)
    kept, epochs = run_folder.newest(bad.run_dir)
    assert epochs == (1, 0)
    assert all(torch.isfinite(value).all() for value in load_file(kept / "model.safetensors").values())


def test_a_detector_without_masks_trains(make_recipe, rectangles):
    recipe = make_recipe(
        "boxes", "detector.mask=null", "schedule.epochs=1", f"data.val={{annotations: '{rectangles}'}}"
    )
    run(recipe)
    assert "box_ap" in metrics(recipe, 1)
    assert "mask_ap" not in metrics(recipe, 1)


def test_validation_runs_when_due_and_at_the_end(make_recipe, rectangles):
    recipe = make_recipe(
        "toy",
        "schedule.epochs=3",
        "schedule.validate_every_epochs=2",
        f"data.val={{annotations: '{rectangles}'}}",
    )
    found = []
    run(recipe, report=lambda metrics, _: found.append("box_ap" in metrics))
    assert found == [False, True, True]


def test_validation_classes_must_be_trained(make_recipe, rectangles):
    content = json.loads(rectangles.read_text())
    content["categories"].append({"id": 3, "name": "green"})
    other = rectangles.with_name("other.json")
    other.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"data\.val: green"):
        run(make_recipe("toy", f"data.val={{annotations: '{other}'}}"))


def test_a_checkpoint_of_other_classes_is_not_resumed(make_recipe, rectangles):
    content = json.loads(rectangles.read_text())
    content["categories"][1]["name"] = "green"
    other = rectangles.with_name("renamed.json")
    other.write_text(json.dumps(content))
    run(make_recipe("toy", "schedule.epochs=1"))
    with pytest.raises(CheckpointError, match="red, green; got red, blue"):
        run(make_recipe("toy", f"data.train.annotations={other}"))


def test_missing_images_are_told_before_training(make_recipe, rectangles, tmp_path):
    with pytest.raises(DataError, match="8 of its 8 image files are missing"):
        run(make_recipe("toy", f"data.train={{annotations: '{rectangles}', images: '{tmp_path}'}}"))
