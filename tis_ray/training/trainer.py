"""Training on Ray: one Ray Train run per recipe, all side by side in one Ray job, watched from this process.

What the workers do is in `tis_ray.training.worker`; this module gives them resources and follows them.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from tis_ray import local_ray
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError
from tis_ray.models.assembly import check_parts
from tis_ray.models.checkpoint import WEIGHTS
from tis_ray.training import run_folder
from tis_ray.training.failures import TrainingError, explain, first_line
from tis_ray.training.fit import fit
from tis_ray.training.progress import Board, RunProgress, display_for
from tis_ray.training.run import stuff_maps

POLL_S, BOARD_S, STOP_S = 0.5, 5.0, 10.0
# A Ray of one machine needs no process that watches for lost nodes, and can be asked more often how it is.
LOCAL_RAY = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}


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
    with ExitStack() as locks:
        for recipe in open_runs:
            locks.enter_context(run_folder.locked(recipe.run_dir, starting=True))
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
    for recipe in recipes:
        if not run_folder.finished(recipe.run_dir):
            done = f"{_epochs_done(recipe)} of {recipe.schedule.epochs} epochs"
            raise TrainingError(f"{recipe.name}: the run ended after {done}; resume to go on")
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
            _check_data(recipe)
            _check_start(recipe)


def _check_start(recipe: Recipe) -> None:
    start = recipe.start
    if start is not None and not _epochs_done(recipe) and not (start.checkpoint / WEIGHTS).is_file():
        raise ConfigError(f"start.checkpoint: expected the folder of a checkpoint; got {start.checkpoint}")


def _check_data(recipe: Recipe) -> None:
    for folder, key in ((recipe.data.train, "data.train"), (recipe.data.val, "data.val")):
        if folder is not None and (missing := folder.missing()):
            raise ConfigError(f"{key}.{missing}")
    stuff_maps(recipe)


def _epochs_done(recipe: Recipe) -> int:
    found = run_folder.newest(recipe.run_dir)
    return 0 if found is None else found[1]


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
        needed = sum(recipe.resources.most_workers * recipe.resources.cpus_per_worker for recipe in recipes)
        cpus = max(math.ceil(needed), os.cpu_count() or 1)
        local_ray.start(num_cpus=cpus, runtime_env={"env_vars": LOCAL_RAY})
    try:
        yield
    finally:
        ray.shutdown()


def _run_all(
    recipes: Sequence[Recipe], *, on_progress: Callable[[RunProgress], None] | None, console: Console | None
) -> None:
    """Fit all recipes, show their progress, and raise the first failure once all have ended.

    Each `fit` has a process of its own: what it has started ends with it, so every way out of here stops the runs.
    """
    gpus = {recipe.name: _gpus_per_worker(recipe) for recipe in recipes}
    runs = {recipe.name: RunProgress(recipe.name, state=_awaited(recipe, gpus[recipe.name])) for recipe in recipes}
    board = ray.remote(num_cpus=0)(Board).remote()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    run_fit = ray.remote(num_cpus=0, max_retries=0, max_calls=1, scheduling_strategy=here)(fit)
    failures: dict[str, Exception] = {}
    going: dict[ray.ObjectRef, str] = {}
    try:
        going |= {run_fit.remote(recipe, board, gpus=gpus[recipe.name]): recipe.name for recipe in recipes}
        with display_for(console, list(runs)) as display:
            display.show(runs)
            while going:
                ended, _ = ray.wait(list(going), num_returns=len(going), timeout=POLL_S)
                news = {name: run for name, run in _read(board).items() if run != runs[name]}
                for name, run in news.items():
                    if run.note != runs[name].note:
                        display.line(f"{name}: {run.note}")
                runs |= news
                display.show(runs)
                for run in news.values():
                    if on_progress is not None:
                        on_progress(run)
                for ref in ended:
                    name = going.pop(ref)
                    error = _error_of(ref)
                    if error is not None:
                        failures[name] = explain(error, name)
                        display.line(first_line(failures[name]))
    finally:
        if going:
            _stop(list(going))
        ray.kill(board)
    for recipe in recipes:
        if recipe.name in failures:
            raise failures[recipe.name]


def _stop(fits: list[ray.ObjectRef]) -> None:
    """End what is going: as Ray Train does at Ctrl-C, giving back what it holds, else by force."""
    for ref in fits:
        ray.cancel(ref)
    _, deaf = ray.wait(fits, num_returns=len(fits), timeout=STOP_S)
    for ref in deaf:
        ray.cancel(ref, force=True)


def _error_of(ref: ray.ObjectRef) -> Exception | None:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        return error


def _read(board: ActorHandle) -> dict[str, RunProgress]:
    """What is known of the runs; nothing where the board is lost or late, for training goes on without it."""
    try:
        return ray.get(board.read.remote(), timeout=BOARD_S)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return {}


def _gpus_per_worker(recipe: Recipe) -> float:
    """GPUs of each worker. Raises `ConfigError` where this machine, not a cluster that may grow, lacks them."""
    wanted, there = recipe.resources.gpus_per_worker, ray.cluster_resources().get("GPU", 0)
    if wanted == "auto":
        return 1 if there >= recipe.resources.most_workers else 0
    if wanted * recipe.resources.most_workers > there and not os.environ.get("RAY_ADDRESS"):
        needed = f"{recipe.resources.most_workers} x {wanted:g}"
        raise ConfigError(f"resources.gpus_per_worker: expected at most {there:g} GPUs in all; got {needed}")
    return wanted


def _awaited(recipe: Recipe, gpus: float) -> str:
    count, cpus = recipe.resources.most_workers, recipe.resources.cpus_per_worker
    each = f"{cpus:g} CPU, {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
    return f"waiting for {count} worker{'s' if count > 1 else ''} ({each}{' each' if count > 1 else ''})"
