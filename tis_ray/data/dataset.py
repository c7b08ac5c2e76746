"""Training samples: pictures and ground truth of a data set in the network frame, varied by region, scale and flip.

All chance comes from a generator keyed by (seed, epoch, index, copy): a sample is the same in whichever process, order
or resumed run it is drawn.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tis_ray.data import transforms
from tis_ray.data.plan import Draw
from tis_ray.data.regions import ValidTrainingRegion
from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.images import RgbImage, open_image
from tis_ray.formats.stuff_maps import StuffMaps
from tis_ray.instances import Annotations
from tis_ray.views import resized_hw


class Sample(NamedTuple):
    """One training image: uint8 (3, h, w), its ground truth in the same frame, and its id in the data set."""

    image: Tensor
    annotations: Annotations
    image_id: int


class TrainingSet(Dataset[Sample]):
    """A map-style data set over every image of `truth`, those without any annotation included.

    scales:           shorter edges in pixels, one of which is drawn for each sample
    max_long_edge:    bound of the longer edge in pixels, or None
    flip_probability: chance of mirroring a sample
    region:           what chooses the part of the image to take, or None for all of it
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
        region: ValidTrainingRegion | None = None,
        stuff: StuffMaps | None = None,
    ) -> None:
        self.truth, self.scales, self.max_long_edge = truth, tuple(scales), max_long_edge
        self.flip_probability, self.region, self.stuff = flip_probability, region, stuff
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.truth)

    def set_epoch(self, epoch: int) -> None:
        """Draw the variations of `epoch`, from 0. Loader processes take it over when an epoch's iteration starts."""
        self.epoch = epoch

    def __getitem__(self, draw: Draw) -> Sample:
        """Raises `DataError` naming the file where the image is missing, broken or of another size than listed."""
        chance = np.random.default_rng((self.seed, self.epoch, draw.index, draw.copy))
        scale = self.scales[chance.integers(len(self.scales))]
        mirrored = chance.random() < self.flip_probability
        record = self.truth.images[draw.index]
        image, annotations = read_image(record), self.truth.annotations(record.id)
        if self.stuff is not None:
            annotations = replace(annotations, stuff=self.stuff.read(record))
        size_hw = record.height, record.width
        if self.region is not None and (box := self.region.draw(chance, annotations, size_hw)) is not None:
            image, annotations = transforms.crop(image, annotations, box)
            size_hw = box[3] - box[1], box[2] - box[0]
        size_hw = resized_hw(size_hw, scale, self.max_long_edge)
        image, annotations = transforms.resize(image, annotations, size_hw)
        if mirrored:
            image, annotations = transforms.hflip(image, annotations)
        return Sample(image.contiguous(), transforms.without_degenerate(annotations), record.id)


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
    missing = [record.path for record in truth.images if not record.path.is_file()]
    if missing:
        raise DataError(
            f"{truth.path}: {len(missing)} of its {len(truth)} image files are missing, the first is {missing[0]}"
        )
