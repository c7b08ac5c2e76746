"""The runs of one command on Ray: which go, which wait for another one's checkpoint, and what befell them."""

import os
from collections.abc import Mapping, Sequence

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tis_ray.config import Recipe
from tis_ray.errors import ConfigError, TisRayError
from tis_ray.training import run_folder
from tis_ray.training.failures import TrainingError, explain, first_line
from tis_ray.training.fit import fit, places
from tis_ray.training.report import report_line

STOP_S = 10.0


class Queue:
    """`going` runs, by what `ray.wait` waits for, those that wait for one of them, and the `failures` of others."""

    def __init__(self, recipes: Sequence[Recipe], began: Mapping[str, str], board: ActorHandle) -> None:
        self._waiting = {recipe.name: recipe for recipe in recipes}
        self._began = {name: base for name, base in began.items() if base in self._waiting}
        self._gpus = {recipe.name: _gpus_per_worker(recipe) for recipe in recipes}
        self._recipes, self._board = dict(self._waiting), board
        # The driver's node: what is lost with it would be lost anyway.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._fit = ray.remote(num_cpus=0, max_retries=0, max_calls=1, scheduling_strategy=here)(fit)
        self.going: dict[ray.ObjectRef, str] = {}
        self.failures: dict[str, Exception] = {}

    def awaited(self, recipe: Recipe) -> str:
        """The state of a run that has not begun."""
        base = self._began.get(recipe.name)
        return _awaited(recipe, self._gpus[recipe.name]) if base is None else f"waiting for {base}"

    def start(self) -> None:
        """Begin what need not wait."""
        for name in [name for name in self._waiting if name not in self._began]:
            recipe, gpus = self._waiting.pop(name), self._gpus[name]
            ref = self._fit.remote(recipe, self._board, gpus=gpus, awaited=_awaited(recipe, gpus))
            self.going[ref] = name

    def end(self, ref: ray.ObjectRef) -> list[str]:
        """Take in that a run has ended, and begin what waited for it; lines about what it and others come to."""
        name = self.going.pop(ref)
        failure, lines = self._failure(self._recipes[name], _error_of(ref)), []
        if failure is not None:
            self.failures[name] = failure
            lines = [first_line(failure), *self._give_up(name)]
        else:
            lines = [report_line(self._recipes[name].run_dir)]
        for follower in [follower for follower, base in self._began.items() if base == name]:
            del self._began[follower]
            self._board.change.remote(follower, state=self.awaited(self._recipes[follower]))
        self.start()
        return lines

    def stop(self) -> None:
        """End what is going: as Ray Train does at Ctrl-C, giving back what it holds, else by force."""
        fits = list(self.going)
        if not fits:
            return
        for ref in fits:
            ray.cancel(ref)
        _, deaf = ray.wait(fits, num_returns=len(fits), timeout=STOP_S)
        for ref in deaf:
            ray.cancel(ref, force=True)

    def _failure(self, recipe: Recipe, error: Exception | None) -> Exception | None:
        """What to say of a run that has ended with `error`; one without has its detector published."""
        if error is not None:
            whereabouts = places(self._board, recipe.name)
            return explain(error, recipe.name, places=whereabouts, restarts=recipe.resources.max_failures)
        try:
            run_folder.publish(recipe.run_dir)
        except OSError as broken:
            return TrainingError(f"{recipe.name}: its checkpoint cannot be written ({broken}); go on with --resume")
        except TisRayError as mistake:
            return type(mistake)(f"{recipe.name}: {mistake}")
        return None

    def _give_up(self, name: str) -> list[str]:
        """What waits for a run that has failed is not begun, nor what waits for that."""
        lines = []
        for follower in [follower for follower, base in self._began.items() if base == name]:
            del self._began[follower], self._waiting[follower]
            lines += [f"{follower}: not begun, for {name} has failed", *self._give_up(follower)]
        return lines


def _error_of(ref: ray.ObjectRef) -> Exception | None:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        return error


def _gpus_per_worker(recipe: Recipe) -> float:
    """GPUs of each worker. Raises `ConfigError` where this machine, not a cluster that may grow, lacks them."""
    wanted, there = recipe.resources.gpus_per_worker, ray.cluster_resources().get("GPU", 0)
    if wanted == "auto":
        return 1 if there >= recipe.resources.least_workers else 0
    if wanted * recipe.resources.least_workers > there and not os.environ.get("RAY_ADDRESS"):
        needed = f"{recipe.resources.least_workers} x {wanted:g}"
        raise ConfigError(f"resources.gpus_per_worker: expected at most {there:g} GPUs in all; got {needed}")
    return wanted


def _awaited(recipe: Recipe, gpus: float) -> str:
    least, most = recipe.resources.least_workers, recipe.resources.most_workers
    count, cpus = f"{least}" if least == most else f"{least} to {most}", recipe.resources.cpus_per_worker
    each = f"{cpus:g} CPU, {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
    return f"waiting for {count} worker{'s' if most > 1 else ''} ({each}{' each' if most > 1 else ''})"
