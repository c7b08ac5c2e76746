"""What Ray Train runs on every worker of a run: `tis_ray.training.run`, with a way to report."""

import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import Checkpoint, CheckpointUploadMode, get_checkpoint, get_context, report
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device

from tis_ray.config import Recipe
from tis_ray.errors import ConfigError, TisRayError
from tis_ray.training import run_folder
from tis_ray.training.progress import RunProgress

TELL_EVERY_S = 0.5
STORAGE_S = 60.0  # file systems in a network may show other nodes' files that late


def train_worker(config: dict[str, Any]) -> None:
    """Train the recipe in `config` on this worker and tell its board."""
    try:
        _train(Recipe.model_validate(config["recipe"]), config["board"], config["known"])
    except TisRayError:
        raise
    except Exception as error:
        error.add_note(traceback.format_exc())  # where it was raised is not known elsewhere
        raise


def _train(recipe: Recipe, board: ActorHandle, known: str) -> None:
    """`known`: the name of the checkpoint that the driver has seen as the newest, empty where there was none."""
    import torch  # the driver, which imports this module too, needs no PyTorch of its own for this

    from tis_ray.training.run import Worker, run

    context, device = get_context(), get_device()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    board.place.remote(recipe.name, rank, _place())
    node = ray.util.get_node_ip_address()
    check_node(recipe, node)
    reported = get_checkpoint()  # since the driver has started the run
    await_known(recipe, known if reported is None else Path(reported.path).name, node)
    begin = run_folder.newest_name(recipe.run_dir)
    if world_size > 1:
        begin = broadcast_from_rank_zero(begin)
        await_checkpoint(recipe, begin, node)
    if device.type == "cpu":
        torch.set_num_threads(max(1, round(recipe.resources.cpus_per_worker)))
    worker = Worker(rank=rank, world_size=world_size, device=device)
    run(recipe, worker=worker, begin=begin, report=_report, tell=_Teller(board, world_size))


def check_node(recipe: Recipe, node: str, *, within_s: float = STORAGE_S) -> None:
    """Raise `ConfigError` where the run's folder, after some time, or its data cannot be seen from this node."""
    noted = recipe.run_dir / run_folder.RECIPE  # written before the workers start
    if not _comes(noted.is_file, within_s):
        raise ConfigError(f"output: expected storage that all nodes share; node {node} does not see {noted}")
    if missing := missing_data(recipe):
        raise ConfigError(f"{missing} on node {node}")


def missing_data(recipe: Recipe) -> str | None:
    """What of the recipe's data does not exist here, as `key: expected ...; got PATH`, or None."""
    assert recipe.data is not None
    parts = {"train": recipe.data.train, "val": recipe.data.val, "external": recipe.data.external}
    found = ((key, part.missing()) for key, part in parts.items() if part is not None)
    return next((f"data.{key}.{missing}" for key, missing in found if missing), None)


def await_known(recipe: Recipe, name: str, node: str, *, within_s: float = STORAGE_S) -> None:
    """Wait until this node sees the checkpoint `name`, or a later one, else raise `ConfigError`; empty: nothing.

    Otherwise what was learned would be learned again, or an earlier checkpoint be published as the run's end.
    """

    def seen() -> bool:
        found = run_folder.newest(recipe.run_dir)
        return found is not None and found[1] >= run_folder.position_of(recipe.run_dir / name)

    if name and not _comes(seen, within_s):
        raise _not_seen(recipe, name, node)


def await_checkpoint(recipe: Recipe, name: str, node: str, *, within_s: float = STORAGE_S) -> None:
    """Wait until this node sees the checkpoint `name` from which the first worker goes on, else raise `ConfigError`.

    All workers go on from that, though one of them may see a later one already: from different ones they would learn
    something that nobody asked for.
    """
    if not _comes((recipe.run_dir / name).is_dir, within_s):
        raise _not_seen(recipe, name, node)


def _not_seen(recipe: Recipe, name: str, node: str) -> ConfigError:
    return ConfigError(
        f"output: expected storage that all nodes share; node {node} does not see {recipe.run_dir / name}"
    )


def _comes(true: Callable[[], bool], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _place() -> str:
    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()}, process {os.getpid()})"


def _report(metrics: dict[str, Any], folder: Path | None) -> None:
    """Wait for all workers and let Ray Train keep account of the committed checkpoint."""
    committed = None if folder is None else Checkpoint(str(folder))
    report(metrics, checkpoint=committed, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


class _Teller:
    """Sends progress to the board, at most every `TELL_EVERY_S` unless the state changes.

    A run that goes on says where, and with how many workers.
    """

    def __init__(self, board: ActorHandle, world_size: int) -> None:
        self._board, self._world_size = board, world_size
        self._last, self._state = 0.0, ""

    def __call__(self, progress: RunProgress) -> None:
        now = time.monotonic()
        if not self._state and progress.step:
            progress = replace(progress, note=self._going_on(progress))
        if progress.state != self._state or now - self._last >= TELL_EVERY_S:
            self._board.update.remote(progress)
            self._last, self._state = now, progress.state

    def _going_on(self, progress: RunProgress) -> str:
        workers = f"{self._world_size} worker{'s' if self._world_size > 1 else ''}"
        return f"goes on after epoch {progress.epoch}, step {progress.step}, with {workers}"
