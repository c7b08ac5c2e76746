"""Training on Ray: one Ray Train run per recipe, all side by side in one Ray job, watched from this process.

Everything a worker does with PyTorch is in `tis_ray.training.run`; this module gives it resources, other workers
and a way to report.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import Checkpoint, CheckpointConfig, CheckpointUploadMode, FailureConfig, RunConfig, ScalingConfig
from ray.train import get_context as get_train_context
from ray.train import report as report_to_ray
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from rich.console import Console

from tis_ray.config import Recipe, dump
from tis_ray.errors import ConfigError, TisRayError
from tis_ray.models.detector import check_parts
from tis_ray.training import run_folder
from tis_ray.training.progress import Board, RunProgress, display_for

POLL_S = 0.5
MAX_FAILURES = 0  # a lost worker ends the run; `resume` goes on from its last checkpoint
# A Ray of one machine needs no process that watches for lost nodes, and can be asked more often how it is.
LOCAL_RAY = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}


class TrainingError(TisRayError):
    """A worker was lost or ran out of memory."""


def train(
    recipes: Sequence[Recipe],
    *,
    resume: bool = False,
    on_progress: Callable[[RunProgress], None] | None = None,
    console: Console | None = None,
) -> list[Path]:
    """Train every recipe, all at once, and return the finished checkpoint folders in the same order.

    resume:      go on with runs that were interrupted; a finished one is left alone, one not begun begins.
    on_progress: called in this process about twice a second with each run that has news.
    console:     shows one bar per run on a terminal and plain lines elsewhere; None shows nothing.

    Uses the Ray this process is connected to, else the cluster that RAY_ADDRESS names, else starts a local one and
    stops it again. When a run fails the others go on; then the first failure is raised: a `TisRayError` for a
    user's mistake or a lost worker, else `RuntimeError`.
    """
    recipes = [run_folder.absolute(recipe) for recipe in recipes]
    _check(recipes, resume=resume)
    open_runs = [recipe for recipe in recipes if not run_folder.finished(recipe.run_dir)]
    for recipe in open_runs:
        run_folder.prepare(recipe)
    remaining = [recipe for recipe in open_runs if _epochs_done(recipe) < recipe.schedule.epochs]
    try:
        if remaining:
            with _connected(remaining):
                _run_all(remaining, on_progress=on_progress, console=console)
    finally:
        for recipe in open_runs:
            if _epochs_done(recipe) == recipe.schedule.epochs:
                run_folder.publish(recipe.run_dir)
    return [recipe.run_dir / run_folder.FINISHED for recipe in recipes]


def _check(recipes: Sequence[Recipe], *, resume: bool) -> None:
    if not recipes:
        raise ConfigError("recipes: expected at least one; got none")
    names = [recipe.name for recipe in recipes]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ConfigError(f"name: expected another for each recipe; got twice: {', '.join(doubles)}")
    for recipe in recipes:
        check_parts(recipe.detector)
        run_folder.check(recipe, resume=resume)
        if not run_folder.finished(recipe.run_dir):
            _check_annotations(recipe)


def _check_annotations(recipe: Recipe) -> None:
    for folder, key in ((recipe.data.train, "data.train"), (recipe.data.val, "data.val")):
        if folder is not None and not folder.annotations.is_file():
            raise ConfigError(f"{key}.annotations: expected a COCO JSON file; got {folder.annotations}")


def _epochs_done(recipe: Recipe) -> int:
    found = run_folder.newest(recipe.run_dir)
    return 0 if found is None else found[1]


# ------------------------------------------------------------------------------------------------- driver


@contextmanager
def _connected(recipes: Sequence[Recipe]) -> Iterator[None]:
    """A Ray to run on: the one there is, or a local one for the time being."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError:
            raise ConfigError(f"RAY_ADDRESS: expected the address of a running Ray; got {address}") from None
    else:
        needed = sum(recipe.resources.workers * recipe.resources.cpus_per_worker for recipe in recipes)
        for name, value in LOCAL_RAY.items():
            os.environ.setdefault(name, value)
        cpus = max(math.ceil(needed), os.cpu_count() or 1)
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _run_all(
    recipes: Sequence[Recipe], *, on_progress: Callable[[RunProgress], None] | None, console: Console | None
) -> None:
    """Fit all recipes in threads, show their progress, and raise the first failure once all have ended."""
    gpus = {recipe.name: _gpus_per_worker(recipe) for recipe in recipes}
    runs = {recipe.name: RunProgress(recipe.name, state=_awaited(recipe, gpus[recipe.name])) for recipe in recipes}
    board = ray.remote(num_cpus=0)(Board).remote()
    failures: dict[str, Exception] = {}
    tell = on_progress or (lambda _: None)

    def fit(recipe: Recipe) -> None:
        try:
            _trainer(recipe, board, gpus=gpus[recipe.name]).fit()
        except Exception as error:
            failures[recipe.name] = error

    threads = [threading.Thread(target=fit, args=(recipe,), name=recipe.name, daemon=True) for recipe in recipes]
    with display_for(console, list(runs)) as display:
        display.show(runs)
        for thread in threads:
            thread.start()
        announced: set[str] = set()
        ended = False
        while not ended:
            ended = not any(thread.is_alive() for thread in threads)
            news = {name: run for name, run in ray.get(board.read.remote()).items() if run != runs[name]}
            runs |= news
            display.show(runs)
            for run in news.values():
                tell(run)
            for name in failures.keys() - announced:
                display.line(_first_line(_explain(failures[name], name)))
                announced.add(name)
            if not ended:
                time.sleep(POLL_S)
    for recipe in recipes:
        if recipe.name in failures:
            explained = _explain(failures[recipe.name], recipe.name)
            raise explained from None if isinstance(explained, TisRayError) else failures[recipe.name]


def _trainer(recipe: Recipe, board: ActorHandle, *, gpus: float) -> TorchTrainer:
    resources = {"CPU": recipe.resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return TorchTrainer(
        _train_worker,
        train_loop_config={"recipe": dump(recipe), "board": board},
        scaling_config=ScalingConfig(
            num_workers=recipe.resources.workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=recipe.name,
            storage_path=str(recipe.output),
            checkpoint_config=CheckpointConfig(num_to_keep=run_folder.KEPT_CHECKPOINTS),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _gpus_per_worker(recipe: Recipe) -> float:
    """GPUs of each worker. Raises `ConfigError` where this machine, not a cluster that may grow, lacks them."""
    wanted, there = recipe.resources.gpus_per_worker, ray.cluster_resources().get("GPU", 0)
    if wanted == "auto":
        return 1 if there >= recipe.resources.workers else 0
    if wanted * recipe.resources.workers > there and not os.environ.get("RAY_ADDRESS"):
        needed = f"{recipe.resources.workers} x {wanted:g}"
        raise ConfigError(f"resources.gpus_per_worker: expected at most {there:g} GPUs in all; got {needed}")
    return wanted


def _awaited(recipe: Recipe, gpus: float) -> str:
    count, cpus = recipe.resources.workers, recipe.resources.cpus_per_worker
    each = f"{cpus:g} CPU, {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
    return f"waiting for {count} worker{'s' if count > 1 else ''} ({each}{' each' if count > 1 else ''})"


def _explain(error: Exception, name: str) -> Exception:
    """The error to raise here for what `fit` raised: a worker's own where it is the user's to mend."""
    if isinstance(error, TisRayError):
        return error
    if isinstance(error, ControllerError):
        return _unexpected(name, "controller", error.controller_failure)
    if not isinstance(error, WorkerGroupError):
        return _unexpected(name, "trainer", error)
    failures = [error.worker_failures[rank] for rank in sorted(error.worker_failures)]
    for failure in failures:
        if isinstance(failure, TisRayError):
            return type(failure)(f"{name}: {failure}")
    for failure in failures:
        if type(failure).__name__ == "OutOfMemoryError":
            return TrainingError(
                f"{name}: out of memory ({_first_line(failure)}); lower data.batch_size or data.scales, then resume"
            )
        if isinstance(failure, ray.exceptions.RayError):
            return TrainingError(f"{name}: a worker was lost ({_first_line(failure)}); resume to go on")
    rank = min(error.worker_failures)
    return _unexpected(name, f"worker {rank}", failures[0], details=str(error))


def _unexpected(name: str, where: str, error: Exception, *, details: str = "") -> RuntimeError:
    unexpected = RuntimeError(f"{name}: {where} failed: {type(error).__name__}: {_first_line(error)}")
    if details:
        unexpected.add_note(details)
    return unexpected


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


# ------------------------------------------------------------------------------------------------- worker


def _train_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs on every worker."""
    import torch  # the driver, which imports this module too, needs no PyTorch of its own for this

    from tis_ray.training.run import Worker, run

    recipe = Recipe.model_validate(config["recipe"])
    context, device = get_train_context(), get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, round(recipe.resources.cpus_per_worker)))
    worker = Worker(rank=context.get_world_rank(), world_size=context.get_world_size(), device=device)
    run(recipe, worker=worker, report=_report, tell=_Teller(config["board"]))


def _report(metrics: dict[str, Any], folder: Path | None) -> None:
    """Wait for all workers and let Ray Train keep account of the committed checkpoint."""
    committed = None if folder is None else Checkpoint(str(folder))
    report_to_ray(metrics, checkpoint=committed, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


class _Teller:
    """Sends progress to the board, at most every `POLL_S` unless the state changes."""

    def __init__(self, board: ActorHandle) -> None:
        self._board, self._last, self._state = board, 0.0, ""

    def __call__(self, progress: RunProgress) -> None:
        now = time.monotonic()
        if progress.state != self._state or now - self._last >= POLL_S:
            self._board.update.remote(progress)
            self._last, self._state = now, progress.state
