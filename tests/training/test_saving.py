"""Checkpoints on storage that takes no more: one line, and what was there before stays."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.training import job as jobs
from tis_ray.training import optim, run_folder
from tis_ray.training.run import Worker, assemble, run
from tis_ray.training.saving import StorageError, restore


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to let files grow beyond so many bytes; it says so as it does of a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def written_size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


@pytest.mark.parametrize("file", ["model.safetensors", run_folder.STATE])
def test_storage_that_takes_no_more_is_named_and_the_last_checkpoint_stays(make_recipe, file):
    ema = "schedule.ema_decay=0.9"  # the state, with all weights, is larger than the published ones
    run(make_recipe("toy", "schedule.epochs=1", ema))
    recipe = make_recipe("toy", "schedule.epochs=2", ema)
    kept, position = run_folder.newest(recipe.run_dir)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert written_size(kept, run_folder.STATE) > written_size(kept, "model.safetensors") + 10_000
    with files_of_at_most(written_size(kept, file) - 5_000), pytest.raises(StorageError) as caught:
        run(recipe)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"output: nothing more can be written to {recipe.run_dir}: File too large;")
    assert run_folder.newest(recipe.run_dir) == (kept, position)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert not list(recipe.run_dir.glob(".partial-*"))
    run(recipe)
    assert run_folder.newest(recipe.run_dir)[1] == (2, 0)


def test_what_is_published_is_the_mean_and_what_learns_is_kept_beside(make_recipe):
    recipe = make_recipe("toy", "schedule.epochs=1", "schedule.ema_decay=0.9")
    plain = make_recipe("plain", "schedule.epochs=1")
    run(recipe)
    run(plain)
    folder, _ = run_folder.newest(recipe.run_dir)
    mean = load_file(folder / "model.safetensors")
    learnt = torch.load(folder / run_folder.STATE, weights_only=True)["weights"]
    expected = load_file(run_folder.newest(plain.run_dir)[0] / "model.safetensors")
    assert expected.keys() == learnt.keys() == mean.keys()
    assert all(torch.equal(learnt[key], value) for key, value in expected.items())
    assert any(not torch.equal(mean[key], value) for key, value in expected.items())


def test_a_folder_that_cannot_be_made_is_told_before_anything_begins(make_recipe: Callable, tmp_path: Path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    recipe = make_recipe()
    for begin in (lambda: run_folder.prepare(recipe), lambda: run(recipe)):
        with pytest.raises(ConfigError, match=r"^output: expected a folder that can be written; got .*: "):
            begin()


def test_every_worker_goes_on_with_what_learns_and_the_first_alone_keeps_the_mean(make_recipe: Callable):
    recipe = make_recipe("toy", "schedule.epochs=1", "schedule.ema_decay=0.9")
    run(recipe)
    folder, _ = run_folder.newest(recipe.run_dir)
    learnt = torch.load(folder / run_folder.STATE, weights_only=True)["weights"]
    mean = load_file(folder / "model.safetensors")
    for rank in (0, 1):
        job = jobs.assemble(recipe, Worker(rank=rank, world_size=2), goes_on=True)
        restore(job, folder)
        assert all(torch.equal(value, learnt[key]) for key, value in job.detector.state_dict().items())
        assert (job.mean is None) == (rank == 1)
        if job.mean is not None:
            assert all(torch.equal(value, mean[key]) for key, value in job.mean.detector.state_dict().items())


def test_what_a_device_says_while_a_state_is_taken_over_is_no_damage_of_the_file(
    make_recipe: Callable, monkeypatch: pytest.MonkeyPatch
):
    recipe = make_recipe("toy", "schedule.epochs=1")
    run(recipe)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")

    monkeypatch.setattr(optim, "restore", full)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        assemble(recipe, Worker())


def test_a_state_of_other_weights_is_refused(make_recipe: Callable):
    recipe = make_recipe("toy", "schedule.epochs=1", "schedule.ema_decay=0.9")
    run(recipe)
    folder, _ = run_folder.newest(recipe.run_dir)
    state = torch.load(folder / run_folder.STATE, weights_only=True)
    state["weights"].popitem()
    torch.save(state, folder / run_folder.STATE)
    with pytest.raises(CheckpointError, match=r"training_state\.pt cannot be read \(ValueError\); delete the folder"):
        assemble(recipe, Worker())
