"""The recipe of one member: data, detector parts, schedule and resources."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tis_ray.config.section import Choice, Part, Section


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
    scales: tuple[int, ...] = Field(default=(800,), min_length=1)
    max_long_edge: int | None = 1333
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    batch_size: int = Field(default=2, ge=1)
    loader_processes: int = Field(default=0, ge=0)


class AnchorSection(Section):
    """Anchor sides in network pixels, one tuple per pyramid level from fine to coarse, and height/width ratios."""

    sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)


class RpnSection(Section):
    """Region proposal network: IoU bounds of anchor matching, sampling and proposal counts."""

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    samples_per_image: int = 256
    positive_fraction: float = 0.5
    nms_iou: float = 0.7
    pre_nms_top_n_train: int = 2000
    post_nms_top_n_train: int = 2000
    pre_nms_top_n_test: int = 1000
    post_nms_top_n_test: int = 1000


class BoxSection(Section):
    """Second stage: RoI sampling, the two-layer box head and the post-processing of one view."""

    pool_size: int = 7
    hidden: int = 1024
    positive_iou: float = 0.5
    samples_per_image: int = 512
    positive_fraction: float = 0.25
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_instances: int = 100


class MaskSection(Section):
    """Mask branch: RoI grid before up-sampling (the patch has twice its side) and convolution widths."""

    pool_size: int = 14
    channels: tuple[int, ...] = (256, 256, 256, 256)


class DetectorSection(Section):
    """The detector, one choice per part; `mask: null` leaves the mask branch out."""

    backbone: Part
    neck: Part = Choice(name="fpn")
    anchors: AnchorSection = AnchorSection()
    rpn: RpnSection = RpnSection()
    box: BoxSection = BoxSection()
    mask: MaskSection | None = MaskSection()
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ScheduleSection(Section):
    """SGD with linear warm-up and step decay. Milestones are epochs; `lr` is for the whole batch of all workers."""

    epochs: int = Field(default=12, ge=1)
    lr: float = Field(default=0.02, gt=0)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_iterations: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=1 / 3, gt=0, le=1)
    milestones: tuple[float, ...] = (8, 11)
    gamma: float = 0.1
    clip_grad_norm: float | None = None
    validate_every_epochs: int = Field(default=1, ge=1)


def _check_gpus(count: float | str) -> float | str:
    if isinstance(count, float) and (count < 0 or (count > 1 and count != int(count))):
        raise ValueError("expected 'auto', a part of one GPU, or a whole number of them")
    return count


class TrainResources(Section):
    """Ray Train workers. `gpus_per_worker: auto` takes one GPU each where the cluster has any, else none."""

    workers: int = Field(default=1, ge=1)
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: Annotated[float | Literal["auto"], AfterValidator(_check_gpus)] = "auto"


class Recipe(Section):
    """Everything that trains one member; its run folder is `output`/`name`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
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
