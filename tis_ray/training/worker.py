"""What Ray Train runs on every worker of a run: `tis_ray.training.run`, with a way to report."""

import time
from pathlib import Path
from typing import Any

from ray.actor import ActorHandle
from ray.train import Checkpoint, CheckpointUploadMode, get_context, report
from ray.train.torch import get_device

from tis_ray.config import Recipe
from tis_ray.training.progress import RunProgress

TELL_EVERY_S = 0.5


def train_worker(config: dict[str, Any]) -> None:
    """Train the recipe in `config` on this worker and tell its board."""
    import torch  # the driver, which imports this module too, needs no PyTorch of its own for this

    from tis_ray.training.run import Worker, run

    recipe = Recipe.model_validate(config["recipe"])
    context, device = get_context(), get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, round(recipe.resources.cpus_per_worker)))
    worker = Worker(rank=context.get_world_rank(), world_size=context.get_world_size(), device=device)
    run(recipe, worker=worker, report=_report, tell=_Teller(config["board"]))


def _report(metrics: dict[str, Any], folder: Path | None) -> None:
    """Wait for all workers and let Ray Train keep account of the committed checkpoint."""
    committed = None if folder is None else Checkpoint(str(folder))
    report(metrics, checkpoint=committed, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


class _Teller:
    """Sends progress to the board, at most every `TELL_EVERY_S` unless the state changes."""

    def __init__(self, board: ActorHandle) -> None:
        self._board, self._last, self._state = board, 0.0, ""

    def __call__(self, progress: RunProgress) -> None:
        now = time.monotonic()
        if progress.state != self._state or now - self._last >= TELL_EVERY_S:
            self._board.update.remote(progress)
            self._last, self._state = now, progress.state
