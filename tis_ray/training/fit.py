"""One Ray Train run of one recipe, from a process of its own that needs to import little."""

from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

from tis_ray.config import Recipe, dump
from tis_ray.training import run_folder
from tis_ray.training.failures import EndedError, ending, told, was_taken_away
from tis_ray.training.worker import await_known, train_worker

RESIZE_EVERY_S = 300.0  # a run of a range of workers loses what it did since its last checkpoint when it takes more
BOARD_S = 5.0


def fit(recipe: Recipe, board: ActorHandle, *, gpus: float, awaited: str) -> Exception | None:
    """Run one recipe to its end. Its error is the answer: Ray would wrap one that is raised.

    awaited: the state in which the run is while it waits for workers
    """
    try:
        result = _trainer(recipe, board, gpus=gpus, awaited=awaited).fit()
        if result.checkpoint is not None:  # a run that had ended before reports none
            await_known(recipe, Path(result.checkpoint.path).name, ray.util.get_node_ip_address())
    except Exception as error:
        return error
    return None


def _trainer(recipe: Recipe, board: ActorHandle, *, gpus: float, awaited: str) -> TorchTrainer:
    resources = {"CPU": recipe.resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return TorchTrainer(
        train_worker,
        train_loop_config={
            "recipe": dump(recipe),
            "board": board,
            "known": run_folder.newest_name(recipe.run_dir),
        },
        scaling_config=ScalingConfig(
            num_workers=recipe.resources.workers,
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
            use_gpu=gpus > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=recipe.name,
            storage_path=str(recipe.output),
            checkpoint_config=CheckpointConfig(num_to_keep=run_folder.KEPT_CHECKPOINTS),
            failure_config=FailureConfig(max_failures=recipe.resources.max_failures),
            callbacks=[_Watch(recipe, board, awaited=awaited)],
        ),
    )


class _Watch(UserCallback):
    """Sees workers fail, in Ray Train's controller: ends the run where no restart would help, else tells of one.

    Ray Train itself would restart a run after any error of a worker, a user's mistake too. What a callback raises is an
    error of the controller, after which it stops all workers and restarts nothing.
    """

    def __init__(self, recipe: Recipe, board: ActorHandle, *, awaited: str) -> None:
        self._name, self._most, self._awaited = recipe.name, recipe.resources.max_failures, awaited
        self._board, self._restarts, self._told = board, 0, ""

    def after_exception(
        self,
        run_context: object,  # noqa: ARG002, handed over by name
        worker_exceptions: dict[int, Exception],
    ) -> None:
        """Raise `EndedError` where no restart would help."""
        if ending(worker_exceptions) is not None:
            raise EndedError(worker_exceptions)
        befell = told(worker_exceptions, places(self._board, self._name))
        if was_taken_away(worker_exceptions):
            self._say(f"{befell}: its node was taken away; going on from the last checkpoint")
        elif self._restarts < self._most:
            self._restarts += 1
            self._say(f"{befell}; going on from the last checkpoint ({self._restarts} of {self._most})")

    def _say(self, note: str) -> None:
        if note != self._told:  # a node that is being taken away is reported again until it is gone
            self._board.change.remote(self._name, state=self._awaited, note=note)
            self._told = note


def places(board: ActorHandle, name: str) -> dict[int, str]:
    """Where the workers of run `name` are, by rank; nothing where the board is lost or late."""
    try:
        found: dict[int, str] = ray.get(board.places.remote(name), timeout=BOARD_S)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return {}
    return found
