"""A run's training checkpoints: what of a job they keep, and how it goes on from one."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from tis_ray.errors import CheckpointError, TisRayError
from tis_ray.models import checkpoint
from tis_ray.training import optim, run_folder
from tis_ray.training.job import Job
from tis_ray.training.position import Position


class StorageError(TisRayError):
    """The run's folder takes nothing more: a full disk, a quota, a lost mount."""


def save(job: Job, metrics: dict[str, Any]) -> Path:
    """Write the checkpoint of where `job` is, in full or not at all; returns its folder.

    Raises `StorageError` where that fails; checkpoints from before are left alone.
    """
    run_dir = job.recipe.run_dir
    try:
        with storage(run_dir):
            folder = run_folder.partial(run_dir, job.position)
            _write(job, metrics, folder)
            return run_folder.commit(folder)
    except StorageError:
        run_folder.clear(run_dir)
        raise


@contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Raise `StorageError` naming `folder` and the reason where writing inside the block fails."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"output: nothing more can be written to {folder}: {_reason(error)}; "
            "the last checkpoint is kept, go on from it with --resume"
        ) from error


def _write(job: Job, metrics: dict[str, Any], folder: Path) -> None:
    checkpoint.save(
        folder,
        detector=job.tested,
        recipe=job.recipe,
        categories=job.categories,
        metrics=metrics,
        sizes=job.sizes,
    )
    try:
        with (folder / run_folder.STATE).open("wb") as file:
            torch.save(_state(job), file)
    except RuntimeError as error:  # of PyTorch's writer, which counts bytes on when the file takes no more
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _reason(error: OSError | SafetensorError) -> str:
    """What the system says of it; safetensors has it in a sentence of its own."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = re.search(r"os error (\d+)", str(error))
    return os.strerror(int(number[1])) if number else str(error)


def restore(job: Job, folder: Path) -> None:
    """Go on from a training checkpoint, on all ranks the same. Raises `CheckpointError` where that cannot be."""
    loaded, _, categories = checkpoint.load(folder)
    if categories.names != job.truth.categories.names:
        raise CheckpointError(
            f"checkpoint {folder}: expected the classes of {job.truth.path}, {', '.join(job.truth.categories.names)}; "
            f"got {', '.join(categories.names)}"
        )
    state = _read(folder)
    try:
        _take_over(job, run_folder.position_of(folder), loaded.state_dict(), state)
    except (KeyError, TypeError, ValueError) as error:  # what a device says of itself is none of them
        raise _damaged(folder, error) from error


def _read(folder: Path) -> dict[str, Any]:
    """What only resuming needs. PyTorch's reader has a `RuntimeError` for most of what may be wrong with the file."""
    try:
        state: dict[str, Any] = torch.load(folder / run_folder.STATE, map_location="cpu", weights_only=True)
    except (OSError, EOFError, UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error
    return state


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {folder}: {run_folder.STATE} cannot be read ({type(error).__name__}); "
        "delete the folder to go on from the one before"
    )


def _state(job: Job) -> dict[str, Any]:
    """What only resuming needs: tensors and plain values."""
    weights = {} if job.mean is None else {"weights": job.detector.state_dict()}
    return weights | {
        "optimizer": job.optimizer.state_dict(),
        "epoch": job.position.epochs,
        "step": job.step,
        "loss_sum": job.loss_sum,
        "loss_count": job.loss_count,
    }


def _take_over(job: Job, position: Position, tested: dict[str, Tensor], state: dict[str, Any]) -> None:
    """`tested`: the weights that the checkpoint has as its detector, which are their mean where one was kept."""
    learns = tested if job.recipe.schedule.ema_decay is None else state["weights"]
    if [(key, value.shape) for key, value in learns.items()] != [(key, one.shape) for key, one in tested.items()]:
        raise ValueError("expected the weights of this detector; got others")
    job.detector.load_state_dict(learns)
    if job.mean is not None:
        job.mean.detector.load_state_dict(tested)
    optim.restore(job.optimizer, state["optimizer"])
    job.position, job.step = position, state["step"]
    if position.batches:  # an earlier version wrote checkpoints at the ends of epochs alone, and no sums
        job.loss_sum, job.loss_count = state["loss_sum"], state["loss_count"]
