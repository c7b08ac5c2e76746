"""Training samples: pictures and ground truth of a data set in the network frame, varied in all the ways there are.

All chance comes from generators keyed by (seed, epoch, index, copy): a sample is the same in whichever process, order
or resumed run it is drawn. Each augmentation has a generator of its own, so that none changes what the others draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tis_ray.data import transforms
from tis_ray.data.mosaic import Mosaic, join
from tis_ray.data.photometric import Photometric, recolour
from tis_ray.data.plan import Draw
from tis_ray.data.regions import Region, ValidTrainingRegion
from tis_ray.data.rotation import Rotation, rotate
from tis_ray.data.scale_jitter import ScaleJitter, Zoom, zoom
from tis_ray.data.scales import ScaleSampling, draw_scale
from tis_ray.data.transforms import Labelled
from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.images import RgbImage, open_image
from tis_ray.formats.locations import missing_files
from tis_ray.formats.stuff_maps import StuffMaps
from tis_ray.instances import Annotations
from tis_ray.views import SizeHW, resized_hw

_EXTERNAL = 0  # no number of an augmentation


class Sample(NamedTuple):
    """One training image: uint8 (3, h, w), its ground truth in the same frame, and its id in the data set."""

    image: Tensor
    annotations: Annotations
    image_id: int


@dataclass(frozen=True, slots=True)
class Augmentations:
    """How samples are varied beyond region, scale and flip; None is not at all."""

    mosaic: Mosaic | None = None
    scale_jitter: ScaleJitter | None = None
    rotation: Rotation | None = None
    photometric: Photometric | None = None


class TrainingSet(Dataset[Sample]):
    """A map-style data set over every image of `truth`, those without any annotation included.

    scales:           shorter edges in pixels, one of which is drawn for each sample
    max_long_edge:    bound of the longer edge in pixels, or None
    flip_probability: chance of mirroring a sample
    scale_sampling:   whether one of the `scales` is drawn, or any whole number from the least to the largest
    region:           what chooses the part of the image to take, or None for all of it
    augment:          the other variations
    stuff:            the images' maps of stuff, or None where nothing asks for them
    """

    def __init__(
        self,
        truth: GroundTruth,
        *,
        scales: Sequence[int],
        max_long_edge: int | None,
        flip_probability: float,
        seed: int,
        scale_sampling: ScaleSampling = "choice",
        region: ValidTrainingRegion | None = None,
        augment: Augmentations | None = None,
        stuff: StuffMaps | None = None,
    ) -> None:
        self.truth, self.scales, self.max_long_edge = truth, tuple(scales), max_long_edge
        self.flip_probability, self.scale_sampling, self.region = flip_probability, scale_sampling, region
        self.augment, self.stuff = augment or Augmentations(), stuff
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.truth)

    def set_epoch(self, epoch: int) -> None:
        """Draw the variations of `epoch`, from 0. Loader processes take it over when an epoch's iteration starts."""
        self.epoch = epoch

    def __getitem__(self, draw: Draw) -> Sample:
        """Raises `DataError` naming the file where an image is missing, broken or of another size than listed."""
        augment = self.augment
        chance = self._chance(draw)
        scale = draw_scale(self.scales, self.scale_sampling, chance)
        mirrored = chance.random() < self.flip_probability
        first = self._source(draw.index, chance)
        size_hw = resized_hw(first.size_hw, scale, self.max_long_edge)
        zoomed = augment.scale_jitter and augment.scale_jitter.draw(self._chance(draw, 1))
        joined = self._mosaic(draw, first, size_hw, zoomed)
        image, annotations = _alone(first, size_hw, zoomed) if joined is None else joined
        if augment.rotation is not None and (degrees := augment.rotation.draw(self._chance(draw, 3))) is not None:
            image, annotations = rotate(image, annotations, degrees)
        if mirrored:
            image, annotations = transforms.hflip(image, annotations)
        if augment.photometric is not None and (colours := augment.photometric.draw(self._chance(draw, 4))) is not None:
            image = recolour(image, colours)
        return Sample(_of_its_own(image), transforms.without_degenerate(annotations), first.record.id)

    def _chance(self, draw: Draw, stream: int | None = None) -> np.random.Generator:
        """The generator of region, scale and flip, or that of an augmentation; of external images, others."""
        key = (self.seed, self.epoch, draw.index, draw.copy)
        spawn_key = ((_EXTERNAL,) if draw.external else ()) + (() if stream is None else (stream,))
        return np.random.default_rng(np.random.SeedSequence(key, spawn_key=spawn_key))

    def _source(self, index: int, chance: np.random.Generator) -> "_Source":
        """What is shown of an image, the picture not yet read."""
        record = self.truth.images[index]
        annotations, size_hw = self.truth.annotations(record.id), (record.height, record.width)
        region = None if self.region is None else self.region.draw(chance, annotations, size_hw)
        return _Source(record, annotations, region, self.stuff)

    def _mosaic(self, draw: Draw, first: "_Source", size_hw: SizeHW, zoomed: Zoom | None) -> Labelled | None:
        """The sample as the first part of a mosaic, where one is drawn."""
        if self.augment.mosaic is None:
            return None
        chance = self._chance(draw, 2)
        layout = self.augment.mosaic.draw(chance, len(self))
        if layout is None:
            return None
        sources = (first, *(self._source(index, chance) for index in layout.others))
        return join(
            (source.read() for source in sources),
            size_hw,
            layout.point,
            factor=1 if zoomed is None else zoomed.factor,
            min_visible=self.augment.mosaic.min_visible,
        )


class _Source(NamedTuple):
    """What is shown of an image: all of it or a region."""

    record: ImageRecord
    annotations: Annotations
    region: Region | None
    stuff: StuffMaps | None

    @property
    def size_hw(self) -> SizeHW:
        if self.region is None:
            return self.record.height, self.record.width
        return self.region[3] - self.region[1], self.region[2] - self.region[0]

    def read(self) -> Labelled:
        image, annotations = read_image(self.record), self.annotations
        if self.stuff is not None:
            annotations = replace(annotations, stuff=self.stuff.read(self.record))
        return Labelled(image, annotations) if self.region is None else transforms.crop(image, annotations, self.region)


def _alone(source: _Source, size_hw: SizeHW, zoomed: Zoom | None) -> Labelled:
    sample = source.read()
    return transforms.resize(*sample, size_hw) if zoomed is None else zoom(*sample, size_hw, zoomed)


def _of_its_own(image: Tensor) -> Tensor:
    """The picture in memory that nothing else is in, pixel by pixel: a view would take its whole frame along."""
    if image.untyped_storage().nbytes() == image.numel():
        return image
    return image[None].clone(memory_format=torch.channels_last)[0]


def read_image(record: ImageRecord) -> Tensor:
    """The picture as a uint8 RGB tensor (3, H, W). Raises `DataError` naming the file."""
    pixels = open_image(record.path)
    check_size(record, pixels)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_size(record: ImageRecord, pixels: RgbImage) -> None:
    """Raise `DataError` where an image has not the size that its data set lists: its masks would lie elsewhere."""
    if pixels.shape[:2] != (record.height, record.width):
        raise DataError(
            f"{record.path}: expected {record.width}x{record.height} pixels as its data set lists; "
            f"got {pixels.shape[1]}x{pixels.shape[0]}"
        )


def check_files(truth: GroundTruth) -> None:
    """Raise one `DataError` where image files of the data set are missing, before any time goes into training."""
    missing = missing_files([record.path for record in truth.images])
    if missing:
        raise DataError(
            f"{truth.path}: {len(missing)} of its {len(truth)} image files are missing, the first is {missing[0]}"
        )
