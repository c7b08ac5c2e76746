"""What one worker's run is made of, put together from its recipe."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from tis_ray.config import Recipe
from tis_ray.data.dataset import check_files
from tis_ray.data.loading import Batches
from tis_ray.data.scales import standing_for
from tis_ray.data.survey import survey
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.opening import open_dataset
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.instances import Categories
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.compiling import compile_features
from tis_ray.models.detector import Detector
from tis_ray.models.freezing import freeze
from tis_ray.models.running_mean import RunningMean
from tis_ray.training.data import build_batches, read_external, read_truth
from tis_ray.training.loop import Step, seed_step
from tis_ray.training.optim import build_optimizer
from tis_ray.training.position import Course, Position
from tis_ray.training.schedule import WarmupSteps
from tis_ray.training.start import first_detector
from tis_ray.training.validation import Validation

_START = Position()


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of the run's workers this process is, and the device it trains on."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(slots=True)
class Job:
    """What a worker keeps in its hands during a run. `detector` is the bare one, `model` what the loop calls.

    mean:       of the weights, on rank 0, which tests and writes it; None elsewhere and where nobody asked for it
    categories: with counts, and `sizes`: what checkpoints say of the training set; rank 0 writes them
    note:       what a person should know of how the run begins
    position:   how far the run has got, in `step` steps
    loss_sum:   of the `loss_count` steps since the epoch began
    """

    recipe: Recipe
    worker: Worker
    batches: Batches
    detector: Detector
    model: nn.Module
    mean: RunningMean | None
    optimizer: Optimizer
    learning_rate: WarmupSteps
    course: Course
    truth: GroundTruth
    validation: Validation | None
    categories: Categories
    sizes: TrainingSizes | None
    note: str
    position: Position = _START
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0

    @property
    def tested(self) -> Detector:
        """The detector that is tested and published."""
        return self.detector if self.mean is None else self.mean.detector

    @property
    def finished(self) -> bool:
        """Whether the run is at its end."""
        return self.position >= self.course.end

    def count(self, step: Step) -> None:
        """Account for a step that was made."""
        self.position = self.course.after(self.position, step.batches * self.worker.world_size)
        self.step = step.step
        self.loss_sum += step.loss
        self.loss_count += 1


def assemble(recipe: Recipe, worker: Worker, *, goes_on: bool = False) -> Job:
    """Read the data and build the parts: a run before its first step, or one that `goes_on`, yet to be restored."""
    data, schedule = recipe.data, recipe.schedule
    truth = read_truth(recipe, check_images=worker.rank == 0)
    # Every worker surveys: parts of the detector depend on how often each class was seen.
    scales = standing_for(data.scales, data.scale_sampling)
    categories, sizes = survey(truth, scales=scales, max_long_edge=data.max_long_edge)
    seed_step(recipe.seed, 0, 0)  # every worker builds the same first weights
    detector, note = first_detector(recipe, categories, goes_on=goes_on)
    # Layout decides the order of sums: the same from the first step on as after any resume or validation.
    detector = detector.to(worker.device, memory_format=torch.channels_last)
    detector.size_bucket_px = recipe.resources.size_bucket_px
    freeze(detector, schedule.frozen)
    if recipe.resources.activation_checkpointing:
        checkpoint_activations(detector)
    averages = schedule.ema_decay is not None and worker.rank == 0  # weights are the same on all workers
    mean = RunningMean(detector, decay=schedule.ema_decay) if averages else None
    if recipe.resources.compile:
        compile_features(detector)
    batches = build_batches(
        recipe,
        truth,
        read_external(recipe, truth, check_images=worker.rank == 0),
        rank=worker.rank,
        world_size=worker.world_size,
        pin_memory=worker.device.type == "cuda",
    )
    course = Course(
        batches=len(batches),
        workers=recipe.resources.most_workers,
        accumulate=schedule.accumulate,
        epochs=schedule.epochs,
        iterations=schedule.iterations,
    )
    return Job(
        recipe=recipe,
        worker=worker,
        batches=batches,
        detector=detector,
        model=detector,
        mean=mean,
        optimizer=build_optimizer(
            detector,
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            fused=worker.device.type == "cuda",
        ),
        learning_rate=_learning_rate(recipe, course, world_size=worker.world_size),
        course=course,
        truth=truth,
        validation=_build_validation(recipe, truth) if worker.rank == 0 else None,
        categories=categories,
        sizes=sizes,
        note=note,
    )


def _learning_rate(recipe: Recipe, course: Course, *, world_size: int) -> WarmupSteps:
    """The rate by iterations of the number of workers that the recipe is meant for, scaled to those there are."""
    schedule = recipe.schedule
    lr = schedule.lr
    if schedule.lr_batch_size is not None:
        lr *= recipe.data.batch_size * course.workers * course.accumulate / schedule.lr_batch_size
    return WarmupSteps(
        lr * (world_size / course.workers),
        course.iterations_per_epoch if schedule.iterations is None else 1,
        schedule.milestones,
        schedule.gamma,
        schedule.warmup_iterations,
        schedule.warmup_factor,
    )


def _build_validation(recipe: Recipe, truth: GroundTruth) -> Validation | None:
    data = recipe.data
    if data.val is None:
        return None
    val = open_dataset(data.val)
    check_files(val)
    return Validation(val, truth.categories, scale=data.scales[-1], max_long_edge=data.max_long_edge)
