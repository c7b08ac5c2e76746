"""The data section of a recipe: what a member is trained on."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, field_validator

from tis_ray.config.data_path import DataPath, LocalPath, absolute, is_remote
from tis_ray.config.section import Choice, Fraction, Part, Section

Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CocoFolder(Section):
    """A COCO JSON and the folder its file names are relative to (default: `images` beside it, else its own).

    `stuff` is the folder of label maps that `detector.stuff` learns from, a PNG for each image. `unlabelled` is a file
    of boxes in which a teacher has seen objects that nobody labelled: what is found there is no background either.
    """

    annotations: DataPath
    images: DataPath | None = None
    stuff: DataPath | None = None
    unlabelled: DataPath | None = None

    def absolute(self) -> Self:
        """The same with absolute paths."""
        given = {key: getattr(self, key) for key in CocoFolder.model_fields}
        return self.model_copy(update={key: path and absolute(path) for key, path in given.items()})

    def missing(self) -> str | None:
        """What of it does not exist, as `key: expected ...; got PATH`, or None. URLs are asked when they are read."""
        if not is_remote(self.annotations) and not self.annotations.is_file():
            return f"annotations: expected a COCO JSON file; got {self.annotations}"
        if self.stuff is not None and not is_remote(self.stuff) and not self.stuff.is_dir():
            return f"stuff: expected a folder of label maps; got {self.stuff}"
        if self.unlabelled is not None and not is_remote(self.unlabelled) and not self.unlabelled.is_file():
            return f"unlabelled: expected a file of boxes; got {self.unlabelled}"
        return None


class WadFolder(Section):
    """WAD 2018: the folder of label images `NAME_instanceIds.png` and that of the pictures `NAME.jpg`.

    `frames` are lists of frames as the data set has them for each video, by default every labelled frame is taken;
    `rider` makes a class of the riders, which are background otherwise.
    """

    labels: LocalPath
    images: DataPath
    frames: tuple[LocalPath, ...] = ()
    rider: bool = False

    @field_validator("frames", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    def absolute(self) -> Self:
        """The same with absolute paths."""
        frames = tuple(path.resolve() for path in self.frames)
        located = {"labels": self.labels.resolve(), "images": absolute(self.images), "frames": frames}
        return self.model_copy(update=located)

    def missing(self) -> str | None:
        """What of it does not exist, as `key: expected ...; got PATH`, or None."""
        for key, folder in (("labels", self.labels), ("images", self.images)):
            if not is_remote(folder) and not folder.is_dir():
                return f"{key}: expected a folder; got {folder}"
        lost = next((path for path in self.frames if not path.is_file()), None)
        return None if lost is None else f"frames: expected lists of frames; got {lost}"


def _by_keys(value: Any) -> Any:
    """`annotations` makes it COCO, `labels` WAD."""
    if isinstance(value, Section):
        return value
    keys = set(value) if isinstance(value, dict) else set()
    of_wad = keys & (WadFolder.model_fields.keys() - CocoFolder.model_fields.keys())
    if not keys or ("annotations" in keys and of_wad):
        raise ValueError(
            "expected the keys of COCO data (annotations, images, stuff, unlabelled) or of WAD's "
            f"(labels, images, frames, rider); got {', '.join(value) if keys else value}"
        )
    return (WadFolder if of_wad else CocoFolder).model_validate(value)


DataFolder = Annotated[CocoFolder | WadFolder, BeforeValidator(_by_keys)]


class ValidTrainingRegionSection(Section):
    """Cut a training image to what surrounds its objects with `probability`, else take all of it (TIS, WAD 2018).

    `margin` in pixels is left around them: one number, or a range [low, high] it is drawn from for each side anew.
    """

    probability: Fraction = 0.5
    margin: tuple[Margin, Margin] = (50.0, 50.0)

    @field_validator("margin", mode="before")
    @classmethod
    def _number_or_range(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int | float) else value

    @field_validator("margin")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("expected a number of pixels or a range [low, high]")
        return value


class RegionsSection(Section):
    """Which part of an image becomes a training sample; a part left out is absent."""

    valid_training_region: ValidTrainingRegionSection | None = None


class MosaicSection(Section):
    """Four images at a time, around a point in the middle of the picture, with `probability` (YOLOv4; LVIS 2020).

    `min_visible` is the share of an object that must be left of it where the picture ends.
    """

    probability: Fraction = 0.5
    min_visible: Fraction = 0.1


class ScaleJitterSection(Section):
    """A random factor of the drawn scale, from `low` to `high`; what then exceeds the drawn size is cut away."""

    low: PositiveFloat = 0.1
    high: PositiveFloat = 2.0

    @field_validator("high")
    @classmethod
    def _above_low(cls, value: float, info: Any) -> float:
        if value < info.data.get("low", 0):
            raise ValueError(f"expected at least {info.data['low']}, as low says")
        return value


class RotateSection(Section):
    """Turn a picture by up to `degrees` in either direction, with `probability`."""

    probability: Fraction = 0.5
    degrees: Annotated[float, Field(gt=0, le=180)] = 10.0


class PhotometricSection(Section):
    """Vary brightness, contrast, saturation and hue, each by up to so much, with `probability`."""

    probability: Fraction = 0.5
    brightness: Fraction = 0.125
    contrast: Fraction = 0.5
    saturation: Fraction = 0.5
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.05


class AugmentSection(Section):
    """How training samples are varied beyond scale and flip; what is left out is absent."""

    mosaic: MosaicSection | None = None
    scale_jitter: ScaleJitterSection | None = None
    rotate: RotateSection | None = None
    photometric: PhotometricSection | None = None


class ExternalSection(CocoFolder):
    """Images that a teacher has labelled, learnt from beside the training set (LVIS 2020).

    `images_per_epoch` of them are drawn for each epoch, all where there are fewer, and their losses count
    `loss_weight` times.
    """

    images_per_epoch: PositiveInt = 10_000
    loss_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5


class DataSection(Section):
    """What a member is trained on, and how images are varied and batched.

    `scales` are shorter edges in pixels: with `scale_sampling: choice` one of them is drawn for each image, with
    `range` any whole number from the least to the largest. `sampling` chooses which images an epoch shows, and how
    often. `group_by_aspect` puts upright and wide images into different batches, which are padded less for it.
    `batch_size` counts images per worker.
    """

    train: DataFolder
    val: DataFolder | None = None
    external: ExternalSection | None = None
    sampling: Part = Choice(name="every")
    regions: RegionsSection = RegionsSection()
    augment: AugmentSection = AugmentSection()
    scales: tuple[PositiveInt, ...] = Field(default=(800,), min_length=1)
    scale_sampling: Literal["choice", "range"] = "choice"
    max_long_edge: PositiveInt | None = 1333
    flip_probability: Fraction = 0.5
    group_by_aspect: bool = True
    batch_size: PositiveInt = 2
    loader_processes: int = Field(default=0, ge=0)
