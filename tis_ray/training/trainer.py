"""Training on Ray: one Ray Train run per recipe, all side by side in one Ray job, watched from this process.

What the workers do is in `tis_ray.training.worker`; this module gives them resources and follows them.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from tis_ray import local_ray
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError
from tis_ray.training import run_folder
from tis_ray.training.advice import advice
from tis_ray.training.checking import check
from tis_ray.training.order import bases
from tis_ray.training.progress import Board, RunProgress, display_for
from tis_ray.training.queue import Queue

POLL_S, BOARD_S = 0.5, 5.0
# A Ray of one machine needs no process that watches for lost nodes, and can be asked more often how it is.
LOCAL_RAY = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}


def train(
    recipes: Sequence[Recipe],
    *,
    resume: bool = False,
    on_progress: Callable[[RunProgress], None] | None = None,
    console: Console | None = None,
) -> list[Path]:
    """Train every recipe and return the finished checkpoint folders in the same order.

    All are trained at once, but for those that begin from the checkpoint of another one of them, which wait for it.

    resume:      go on with runs that were interrupted; a finished one is left alone, one not begun begins.
    on_progress: called in this process about twice a second with each run that has news.
    console:     shows one bar per run on a terminal and plain lines elsewhere; None shows nothing.

    Uses the Ray this process is connected to, else the cluster that RAY_ADDRESS names, else starts a local one and
    stops it again. When a run fails the others go on, but for those that begin from it; then the first failure is
    raised: a `TisRayError` for a user's mistake or a lost worker, else `RuntimeError`.
    """
    recipes = [run_folder.absolute(recipe) for recipe in recipes]
    began = bases(recipes)
    check(recipes, began, resume=resume)
    open_runs = [recipe for recipe in recipes if not run_folder.finished(recipe.run_dir)]
    with ExitStack() as locks:
        for recipe in open_runs:
            locks.enter_context(run_folder.locked(recipe.run_dir, starting=True))
            run_folder.prepare(recipe)
        if open_runs:
            with _connected(open_runs):
                _run_all(open_runs, began, on_progress=on_progress, console=console)
    return [recipe.run_dir / run_folder.FINISHED for recipe in recipes]


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
        needed = sum(recipe.resources.least_workers * recipe.resources.cpus_per_worker for recipe in recipes)
        cpus = max(math.ceil(needed), os.cpu_count() or 1)
        local_ray.start(num_cpus=cpus, runtime_env={"env_vars": LOCAL_RAY})
    try:
        yield
    finally:
        ray.shutdown()


def _run_all(
    recipes: Sequence[Recipe],
    began: Mapping[str, str],
    *,
    on_progress: Callable[[RunProgress], None] | None,
    console: Console | None,
) -> None:
    """Fit all recipes, show their progress, and raise the first failure once all have ended.

    Each `fit` has a process of its own: what it has started ends with it, so every way out of here stops the runs.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
    queue = Queue(recipes, began, board)
    runs = {recipe.name: RunProgress(recipe.name, state=queue.awaited(recipe)) for recipe in recipes}
    seen = 0
    try:
        with display_for(console, list(runs)) as display:
            for line in chain.from_iterable(map(advice, recipes)):
                display.line(line)
            queue.start()
            display.show(runs)
            while queue.going:
                ended, _ = ray.wait(list(queue.going), num_returns=len(queue.going), timeout=POLL_S)
                told, notes = _read(board, seen)
                seen += len(notes)
                news = {name: run for name, run in told.items() if run != runs[name]}
                runs |= news
                for note in notes:
                    display.line(note)
                display.show(runs)
                for run in news.values():
                    if on_progress is not None:
                        on_progress(run)
                for ref in ended:
                    for line in queue.end(ref):
                        display.line(line)
    finally:
        queue.stop()
        ray.kill(board)
    for recipe in recipes:
        if recipe.name in queue.failures:
            raise queue.failures[recipe.name]


def _read(board: ActorHandle, seen: int) -> tuple[dict[str, RunProgress], list[str]]:
    """What is known of the runs, and the notes but the first `seen` ones; nothing where the board is lost or late.

    Training goes on without it.
    """
    try:
        return ray.get(board.read.remote(seen), timeout=BOARD_S)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return {}, []
