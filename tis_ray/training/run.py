"""One worker's whole run: from a recipe to its last checkpoint, resumed where the run folder has got to.

Nothing here knows Ray: the trainer hands in who the worker is and how epochs are reported to the other workers.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from tis_ray.config import CocoFolder, Recipe, RegionsSection
from tis_ray.data.dataset import TrainingSet, check_files
from tis_ray.data.loading import Batches
from tis_ray.data.plan import EpochPlan
from tis_ray.data.regions import ValidTrainingRegion
from tis_ray.data.sampling import image_sampler
from tis_ray.data.survey import survey
from tis_ray.errors import CheckpointError, ConfigError, DataError
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.opening import open_dataset
from tis_ray.formats.stuff_maps import StuffMaps
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.instances import Categories
from tis_ray.models import checkpoint
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.detector import Detector
from tis_ray.training import run_folder
from tis_ray.training.loop import Step, check_weights, scalars, seed_step, train_epoch
from tis_ray.training.optim import build_optimizer
from tis_ray.training.progress import Meter, RunProgress
from tis_ray.training.schedule import WarmupSteps
from tis_ray.training.start import first_detector
from tis_ray.training.validation import Validation

Report = Callable[[dict[str, Any], Path | None], None]
Tell = Callable[[RunProgress], None]


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of the run's workers this process is, and the device it trains on."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(slots=True)
class Job:
    """What a worker keeps in its hands during a run. `detector` is the bare one, `model` what the loop calls.

    `categories`, with counts, and `sizes` are what checkpoints say of the training set; rank 0 writes them. `note` is
    what a person should know of how the run begins.
    """

    recipe: Recipe
    worker: Worker
    batches: Batches
    detector: Detector
    model: nn.Module
    optimizer: Optimizer
    learning_rate: WarmupSteps
    truth: GroundTruth
    validation: Validation | None
    categories: Categories
    sizes: TrainingSizes | None
    note: str
    epoch: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Of each worker."""
        return -(-len(self.batches) // self.worker.world_size)


def run(recipe: Recipe, *, worker: Worker = Worker(), report: Report | None = None, tell: Tell | None = None) -> None:
    """Train `recipe` (with absolute paths) to its end.

    report: called by every worker after each epoch with metrics and, on rank 0, the folder of the committed
            checkpoint; the others get None. It may wait for all workers.
    tell:   called on rank 0 after every step and change of state.
    Raises a `TisRayError` for a user's mistake; checkpoints written so far stay good.
    """
    with run_folder.locked(recipe.run_dir, starting=False) if worker.rank == 0 else nullcontext():
        _run(assemble(recipe, worker), report, tell)


def _run(job: Job, report: Report | None, tell: Tell | None) -> None:
    recipe, worker = job.recipe, job.worker
    tell = tell if tell is not None and worker.rank == 0 else _ignore
    meter = Meter(_start(job))
    tell(meter.change(state="training"))
    with _tensorboard(job) as write:
        for epoch in range(job.epoch, recipe.schedule.epochs):
            losses = []
            for step in _steps(job, epoch):
                losses.append(step.loss)
                seen = step.images * worker.world_size
                tell(meter.seen(step=step.step, loss=step.loss, images=seen, seconds=step.seconds))
                write(scalars(step), step.step)
            check_weights(job.detector)
            job.epoch = epoch + 1
            metrics: dict[str, Any] = {"epoch": job.epoch, "step": job.epoch * job.steps_per_epoch}
            if worker.rank == 0:
                metrics |= {"loss": sum(losses) / len(losses)} | _validate(job, meter, tell, write)
            committed = _save(job, metrics) if worker.rank == 0 else None
            if report is not None:
                report(metrics, committed)
            tell(meter.change(state="training", epoch=job.epoch))
    tell(meter.change(state="finished"))


def assemble(recipe: Recipe, worker: Worker) -> Job:
    """Read the data, build the parts and load the newest checkpoint of the run folder where there is one."""
    data, schedule = recipe.data, recipe.schedule
    truth = _read_data(recipe, check_images=worker.rank == 0)
    # Every worker surveys: parts of the detector depend on how often each class was seen.
    categories, sizes = survey(truth, scales=data.scales, max_long_edge=data.max_long_edge)
    seed_step(recipe.seed, 0, 0)  # every worker builds the same first weights
    detector, note = first_detector(recipe, categories)
    # Layout decides the order of sums: the same from the first step on as after any resume or validation.
    detector = detector.to(worker.device, memory_format=torch.channels_last)
    if recipe.resources.activation_checkpointing:
        checkpoint_activations(detector)
    batches = Batches(
        TrainingSet(
            truth,
            scales=data.scales,
            max_long_edge=data.max_long_edge,
            flip_probability=data.flip_probability,
            seed=recipe.seed,
            region=_region(data.regions),
            stuff=stuff_maps(recipe),
        ),
        EpochPlan(image_sampler(data.sampling, truth), batch_size=data.batch_size, seed=recipe.seed),
        rank=worker.rank,
        world_size=worker.world_size,
        loader_processes=data.loader_processes,
        pin_memory=worker.device.type == "cuda",
    )
    job = Job(
        recipe=recipe,
        worker=worker,
        batches=batches,
        detector=detector,
        model=detector,
        optimizer=build_optimizer(
            detector, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        ),
        learning_rate=WarmupSteps(
            schedule.lr,
            -(-len(batches) // worker.world_size),
            schedule.milestones,
            schedule.gamma,
            schedule.warmup_iterations,
            schedule.warmup_factor,
        ),
        truth=truth,
        validation=_build_validation(recipe, truth) if worker.rank == 0 else None,
        categories=categories,
        sizes=sizes,
        note=note,
    )
    _restore(job)
    if worker.world_size > 1:
        job.model = nn.parallel.DistributedDataParallel(detector)
    return job


def _read_data(recipe: Recipe, *, check_images: bool) -> GroundTruth:
    truth = open_dataset(recipe.data.train)
    if not len(truth.categories):
        raise DataError(f"{truth.path}: categories: expected at least one; got none")
    if check_images:
        check_files(truth)
        if (maps := stuff_maps(recipe)) is not None:
            maps.check(truth.images)
    return truth


def stuff_maps(recipe: Recipe) -> StuffMaps | None:
    """What `detector.stuff` learns from, None where a recipe has none. `ConfigError` where its data names no maps."""
    section, train = recipe.detector.stuff, recipe.data.train
    if section is None:
        return None
    folder = train.stuff if isinstance(train, CocoFolder) else None
    if folder is None:
        raise ConfigError(
            "data.train.stuff: expected the folder of COCO-format data's label maps, from which detector.stuff learns; "
            "got none (detector.stuff=null leaves that branch out)"
        )
    return StuffMaps(folder, section.num_classes)


def _region(regions: RegionsSection) -> ValidTrainingRegion | None:
    section = regions.valid_training_region
    return None if section is None else ValidTrainingRegion(section.probability, section.margin)


def _build_validation(recipe: Recipe, truth: GroundTruth) -> Validation | None:
    data = recipe.data
    if data.val is None:
        return None
    val = open_dataset(data.val)
    check_files(val)
    return Validation(val, truth.categories, scale=data.scales[-1], max_long_edge=data.max_long_edge)


def _restore(job: Job) -> None:
    """Go on from the newest checkpoint, if there is one. All ranks see the same folder and restore the same."""
    found = run_folder.newest(job.recipe.run_dir)
    if found is None:
        return
    folder, job.epoch = found
    loaded, _, categories = checkpoint.load(folder)
    if categories.names != job.truth.categories.names:
        raise CheckpointError(
            f"checkpoint {folder}: expected the classes of {job.truth.path}, {', '.join(job.truth.categories.names)}; "
            f"got {', '.join(categories.names)}"
        )
    job.detector.load_state_dict(loaded.state_dict())
    try:
        state = torch.load(folder / run_folder.STATE, map_location="cpu", weights_only=True)
        job.optimizer.load_state_dict(state["optimizer"])
    except (OSError, EOFError, UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {folder}: {run_folder.STATE} cannot be read ({type(error).__name__}); "
            "delete the folder to go on from the one before"
        ) from error


def _save(job: Job, metrics: dict[str, Any]) -> Path:
    folder = run_folder.partial(job.recipe.run_dir, job.epoch)
    checkpoint.save(
        folder,
        detector=job.detector,
        recipe=job.recipe,
        categories=job.categories,
        metrics=metrics,
        sizes=job.sizes,
    )
    state = {"optimizer": job.optimizer.state_dict(), "epoch": job.epoch, "step": metrics["step"]}
    torch.save(state, folder / run_folder.STATE)
    return run_folder.commit(folder)


def _steps(job: Job, epoch: int) -> Iterator[Step]:
    return train_epoch(
        job.model,
        job.batches.epoch(epoch),
        job.optimizer,
        job.learning_rate,
        first_step=epoch * job.steps_per_epoch,
        seed=job.recipe.seed,
        rank=job.worker.rank,
        device=job.worker.device,
        clip_grad_norm=job.recipe.schedule.clip_grad_norm,
    )


def _validate(job: Job, meter: Meter, tell: Tell, write: Callable[[dict[str, Any], int], None]) -> dict[str, float]:
    schedule = job.recipe.schedule
    due = job.epoch % schedule.validate_every_epochs == 0 or job.epoch == schedule.epochs
    if job.validation is None or not due:
        return {}
    tell(meter.change(state="validating"))
    scores = job.validation.scores(job.detector, device=job.worker.device)
    write({f"val/{name}": value for name, value in scores.items()}, job.epoch * job.steps_per_epoch)
    tell(meter.change(box_ap=scores.get("box_ap"), mask_ap=scores.get("mask_ap")))
    return scores


def _start(job: Job) -> RunProgress:
    steps, epochs = job.steps_per_epoch, job.recipe.schedule.epochs
    return RunProgress(
        job.recipe.name,
        epoch=job.epoch,
        epochs=epochs,
        step=job.epoch * steps,
        total_steps=epochs * steps,
        note=job.note,
    )


@contextmanager
def _tensorboard(job: Job) -> Iterator[Callable[[dict[str, Any], int], None]]:
    """A function that writes scalars of a step to `tensorboard/`; it does nothing but on rank 0."""
    if job.worker.rank != 0:
        yield _ignore
        return
    steps_done = job.epoch * job.steps_per_epoch  # a resumed run hides what its killed forerunner wrote after them
    with closing(
        SummaryWriter(job.recipe.run_dir / "tensorboard", purge_step=steps_done + 1 if steps_done else None)
    ) as writer:

        def write(values: dict[str, Any], step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield write


def _ignore(*_: object) -> None:
    pass
