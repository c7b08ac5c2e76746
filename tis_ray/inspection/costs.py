"""What a recipe's detector costs: all that `tis-ray inspect` tells, as values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tis_ray.config import DataSection, Recipe
from tis_ray.errors import ConfigError
from tis_ray.inspection.assembled import Chosen, Size, choices_of, sizes_of, weights_notes
from tis_ray.inspection.classes import classes_of
from tis_ray.inspection.dry_run import DryRun, Peak
from tis_ray.inspection.training_step import training_peak
from tis_ray.inspection.views import Frames, default_image_hw, frames_of, views_of
from tis_ray.instances import Categories
from tis_ray.models.assembly import check_parts
from tis_ray.models.freezing import freeze
from tis_ray.views import SizeHW, resized_hw

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ViewCost:
    """Floating point operations of each part on one frame, and the memory of a forward of `frames.per_batch`."""

    frames: Frames
    flops: dict[str, int]
    float32: Peak
    bfloat16: Peak


@dataclass(frozen=True, slots=True)
class StepCost:
    """Bytes that a training step takes at its largest scale, by name of precision.

    Each is the peak of what lives beside the weights, with `kept_bytes`: weights, momentum and, of several workers,
    the copy of the gradients that they exchange.
    """

    network_hw: SizeHW
    num_frames: int
    kept_bytes: int
    float32: Peak
    bfloat16: Peak


@dataclass(frozen=True, slots=True)
class Inspection:
    """A recipe's detector in full; `classes` and `notes` are for a reader."""

    name: str
    classes: str
    image_hw: SizeHW
    choices: list[Chosen]
    sizes: list[Size]
    views: list[ViewCost]
    step: StepCost | None
    notes: list[str]


def inspect(
    recipe: Recipe,
    *,
    image_hw: SizeHW | None = None,
    scales: Sequence[int] = (),
    num_classes: int | None = None,
    training: bool = False,
    on_progress: OnProgress | None = None,
) -> Inspection:
    """Assemble the recipe's detector without weights and ask what it costs; files of weights need not be there.

    image_hw: size of the images; by default that of WAD's, or COCO's most common one
    scales:   shorter edges in the place of the recipe's views
    training: ask for a training step, too

    Raises `ConfigError` for an unknown part or option, for parts that do not go together, and for `training` of a
    recipe without data.
    """
    check_parts(recipe.detector)
    if training and recipe.data is None:
        raise ConfigError(f"--training: expected a recipe with data; {recipe.name} has none")
    image_hw = image_hw or default_image_hw(recipe)
    looks = frames_of(views_of(recipe, scales), image_hw)
    categories, told = classes_of(recipe, num_classes)
    dry = DryRun(recipe.detector, categories)
    freeze(dry.detector, recipe.schedule.frozen)
    sizes = sizes_of(dry.detector)
    tell = on_progress or (lambda *_: None)
    costs, total = [], len(looks) + training
    for look in looks:
        costs.append(_view_cost(dry, look))
        tell(len(costs), total)
    step = _step_cost(recipe, categories, image_hw, sizes) if training else None
    tell(total, total)
    return Inspection(
        recipe.name,
        told,
        image_hw,
        choices_of(recipe.detector),
        sizes,
        costs,
        step,
        weights_notes(recipe),
    )


def _view_cost(dry: DryRun, frames: Frames) -> ViewCost:
    size_hw, count = frames.network_hw, frames.per_batch
    float32, bfloat16 = (dry.peak(size_hw, num_frames=count, bfloat16=half) for half in (False, True))
    return ViewCost(frames, dry.flops(size_hw), float32, bfloat16)


def _step_cost(recipe: Recipe, categories: Categories, image_hw: SizeHW, sizes: Sequence[Size]) -> StepCost:
    assert recipe.data is not None
    frame, count = largest_frame(recipe.data, image_hw), recipe.data.batch_size
    float32, bfloat16 = (
        training_peak(
            recipe.detector,
            categories,
            frame,
            num_frames=count,
            bfloat16=half,
            recompute=recipe.resources.activation_checkpointing,
            frozen=recipe.schedule.frozen,
            size_bucket_px=recipe.resources.size_bucket_px,
        )
        for half in (False, True)
    )
    return StepCost(frame, count, kept_bytes(recipe, sizes), float32, bfloat16)


def largest_frame(data: DataSection, image_hw: SizeHW) -> SizeHW:
    """The largest frame that training makes of images of this size, or of a region of one where it cuts regions."""
    if data.regions.valid_training_region is not None and data.max_long_edge is not None:
        return min(max(data.scales), data.max_long_edge), data.max_long_edge
    return resized_hw(image_hw, max(data.scales), data.max_long_edge)


def kept_bytes(recipe: Recipe, sizes: Sequence[Size]) -> int:
    """What a worker keeps from step to step: weights and their running mean, momentum, and what it exchanges gradients
    in with others.
    """
    detectors = 1 + (recipe.schedule.ema_decay is not None)
    copies = (recipe.schedule.momentum > 0) + (recipe.resources.most_workers > 1)
    return sum(detectors * size.num_bytes + 4 * size.trained * copies for size in sizes)
