"""The recipe of one member: data, detector parts, schedule and resources."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from tis_ray.config.section import Choice, Part, Section

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CocoFolder(Section):
    """A COCO JSON and the folder its file names are relative to (default: `images` beside it, else its own)."""

    annotations: Path
    images: Path | None = None


class DataSection(Section):
    """What a member is trained on, and how images are varied and batched.

    `scales` are shorter edges in pixels, one drawn for each image; `batch_size` counts images per worker.
    """

    train: CocoFolder
    val: CocoFolder | None = None
    scales: tuple[PositiveInt, ...] = Field(default=(800,), min_length=1)
    max_long_edge: PositiveInt | None = 1333
    flip_probability: Fraction = 0.5
    batch_size: PositiveInt = 2
    loader_processes: int = Field(default=0, ge=0)


class AnchorSection(Section):
    """Anchor sides in network pixels, one tuple per pyramid level from fine to coarse, and height/width ratios."""

    sizes: tuple[Annotated[tuple[PositiveFloat, ...], Field(min_length=1)], ...] = (
        (32,),
        (64,),
        (128,),
        (256,),
        (512,),
    )
    aspect_ratios: tuple[PositiveFloat, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)


class RpnSection(Section):
    """Region proposal network: IoU bounds of anchor matching, sampling and proposal counts."""

    positive_iou: Fraction = 0.7
    negative_iou: Fraction = 0.3
    samples_per_image: PositiveInt = 256
    positive_fraction: Fraction = 0.5
    nms_iou: Fraction = 0.7
    pre_nms_top_n_train: PositiveInt = 2000
    post_nms_top_n_train: PositiveInt = 2000
    pre_nms_top_n_test: PositiveInt = 1000
    post_nms_top_n_test: PositiveInt = 1000

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"expected negative_iou <= positive_iou; got {self.negative_iou} > {self.positive_iou}")
        return self


class BoxSection(Section):
    """Second stage: RoI sampling, the two-layer box head and the post-processing of one view."""

    pool_size: PositiveInt = 7
    hidden: PositiveInt = 1024
    positive_iou: Fraction = 0.5
    samples_per_image: PositiveInt = 512
    positive_fraction: Fraction = 0.25
    score_threshold: Fraction = 0.05
    nms_iou: Fraction = 0.5
    max_instances: PositiveInt = 100


class MaskSection(Section):
    """Mask branch: RoI grid before up-sampling (the patch has twice its side) and convolution widths."""

    pool_size: PositiveInt = 14
    channels: tuple[PositiveInt, ...] = Field(default=(256, 256, 256, 256), min_length=1)


class DetectorSection(Section):
    """The detector, one choice per part; `mask: null` leaves the mask branch out."""

    backbone: Part
    neck: Part = Choice(name="fpn")
    anchors: AnchorSection = AnchorSection()
    rpn: RpnSection = RpnSection()
    box: BoxSection = BoxSection()
    mask: MaskSection | None = MaskSection()
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)


class ScheduleSection(Section):
    """SGD with linear warm-up and step decay. Milestones are epochs; `lr` is for the whole batch of all workers."""

    epochs: PositiveInt = 12
    lr: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 1e-4
    warmup_iterations: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=1 / 3, gt=0, le=1)
    milestones: tuple[PositiveFloat, ...] = (8, 11)
    gamma: float = Field(default=0.1, gt=0, le=1)
    clip_grad_norm: PositiveFloat | None = None
    validate_every_epochs: PositiveInt = 1

    @model_validator(mode="after")
    def _check_milestones(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"expected rising milestones; got {list(self.milestones)}")
        return self


def _check_gpus(count: float | str) -> float | str:
    if isinstance(count, float) and (count < 0 or (count > 1 and count != int(count))):
        raise ValueError("expected 'auto', a part of one GPU, or a whole number of them")
    return count


class TrainResources(Section):
    """Ray Train workers. `gpus_per_worker: auto` takes one GPU each where the cluster has any, else none."""

    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: Annotated[float | Literal["auto"], AfterValidator(_check_gpus)] = "auto"


class Recipe(Section):
    """Everything that trains one member; its run folder is `output`/`name`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    data: DataSection
    detector: DetectorSection
    schedule: ScheduleSection = ScheduleSection()
    resources: TrainResources = TrainResources()
    seed: int = Field(default=0, ge=0)
    output: Path = Path("runs")

    @property
    def run_dir(self) -> Path:
        """Folder of the run: `checkpoint/`, `tensorboard/` and Ray Train's own state."""
        return self.output / self.name
