"""One Ray Train run of one recipe, from a process of its own that needs to import little."""

from ray.actor import ActorHandle
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tis_ray.config import Recipe, dump
from tis_ray.training import run_folder
from tis_ray.training.worker import train_worker

MAX_FAILURES = 0  # a lost worker ends the run; `resume` goes on from its last checkpoint


def fit(recipe: Recipe, board: ActorHandle, *, gpus: float) -> Exception | None:
    """Run one recipe to its end. Its error is the answer: Ray would wrap one that is raised."""
    try:
        _trainer(recipe, board, gpus=gpus).fit()
    except Exception as error:
        return error
    return None


def _trainer(recipe: Recipe, board: ActorHandle, *, gpus: float) -> TorchTrainer:
    resources = {"CPU": recipe.resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return TorchTrainer(
        train_worker,
        train_loop_config={"recipe": dump(recipe), "board": board},
        scaling_config=ScalingConfig(
            num_workers=recipe.resources.most_workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=recipe.name,
            storage_path=str(recipe.output),
            checkpoint_config=CheckpointConfig(num_to_keep=run_folder.KEPT_CHECKPOINTS),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
