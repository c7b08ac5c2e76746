"""The data section of a recipe: what a member is trained on."""

from pathlib import Path

from pydantic import Field, PositiveInt

from tis_ray.config.section import Fraction, Section


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
