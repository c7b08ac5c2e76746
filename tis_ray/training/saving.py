"""A run's training checkpoints: what of a job they keep, and how it goes on from one."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tis_ray.errors import CheckpointError
from tis_ray.models import checkpoint
from tis_ray.training import run_folder
from tis_ray.training.job import Job
from tis_ray.training.position import Position


def save(job: Job, metrics: dict[str, Any]) -> Path:
    """Write the checkpoint of where `job` is, in full or not at all; returns its folder."""
    folder = run_folder.partial(job.recipe.run_dir, job.position)
    checkpoint.save(
        folder,
        detector=job.detector,
        recipe=job.recipe,
        categories=job.categories,
        metrics=metrics,
        sizes=job.sizes,
    )
    torch.save(_state(job), folder / run_folder.STATE)
    return run_folder.commit(folder)


def restore(job: Job) -> None:
    """Go on from the newest checkpoint, if there is one. All ranks see the same folder and restore the same."""
    found = run_folder.newest(job.recipe.run_dir)
    if found is None:
        return
    folder, position = found
    loaded, _, categories = checkpoint.load(folder)
    if categories.names != job.truth.categories.names:
        raise CheckpointError(
            f"checkpoint {folder}: expected the classes of {job.truth.path}, {', '.join(job.truth.categories.names)}; "
            f"got {', '.join(categories.names)}"
        )
    job.detector.load_state_dict(loaded.state_dict())
    try:
        _take_over(job, position, torch.load(folder / run_folder.STATE, map_location="cpu", weights_only=True))
    except (OSError, EOFError, UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {folder}: {run_folder.STATE} cannot be read ({type(error).__name__}); "
            "delete the folder to go on from the one before"
        ) from error


def _state(job: Job) -> dict[str, Any]:
    """What only resuming needs: tensors and plain values."""
    return {
        "optimizer": job.optimizer.state_dict(),
        "epoch": job.position.epochs,
        "step": job.step,
        "loss_sum": job.loss_sum,
        "loss_count": job.loss_count,
    }


def _take_over(job: Job, position: Position, state: dict[str, Any]) -> None:
    job.optimizer.load_state_dict(state["optimizer"])
    job.position, job.step = position, state["step"]
    if position.batches:  # an earlier version wrote checkpoints at the ends of epochs alone, and no sums
        job.loss_sum, job.loss_count = state["loss_sum"], state["loss_count"]
