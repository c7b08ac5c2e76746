"""Training samples: pictures and ground truth of a COCO data set in the network frame, varied by scale and flip.

All chance comes from a generator keyed by (seed, epoch, index): a sample is the same in whichever process, order
or resumed run it is drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tis_ray.data import transforms
from tis_ray.errors import DataError
from tis_ray.formats.coco import CocoDataset, ImageRecord
from tis_ray.formats.images import RgbImage, open_image
from tis_ray.instances import Annotations
from tis_ray.views import resized_hw


class Sample(NamedTuple):
    """One training image: uint8 (3, h, w), its ground truth in the same frame, and its id in the data set."""

    image: Tensor
    annotations: Annotations
    image_id: int


class TrainingSet(Dataset[Sample]):
    """A map-style data set over every image of `coco`, those without any annotation included.

    scales:           shorter edges in pixels, one of which is drawn for each sample
    max_long_edge:    bound of the longer edge in pixels, or None
    flip_probability: chance of mirroring a sample
    """

    def __init__(
        self,
        coco: CocoDataset,
        *,
        scales: Sequence[int],
        max_long_edge: int | None,
        flip_probability: float,
        seed: int,
    ) -> None:
        self.coco, self.scales, self.max_long_edge = coco, tuple(scales), max_long_edge
        self.flip_probability, self.seed, self.epoch = flip_probability, seed, 0

    def __len__(self) -> int:
        return len(self.coco)

    def set_epoch(self, epoch: int) -> None:
        """Draw the variations of `epoch`, from 0. Loader processes take it over when an epoch's iteration starts."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        """Raises `DataError` naming the file where the image is missing, broken or of another size than listed."""
        chance = np.random.default_rng((self.seed, self.epoch, index))
        scale = self.scales[chance.integers(len(self.scales))]
        mirrored = chance.random() < self.flip_probability
        record = self.coco.images[index]
        image, annotations = read_image(record), self.coco.annotations(record.id)
        size_hw = resized_hw((record.height, record.width), scale, self.max_long_edge)
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


def check_files(coco: CocoDataset) -> None:
    """Raise one `DataError` where image files of the data set are missing, before any time goes into training."""
    missing = [record.path for record in coco.images if not record.path.is_file()]
    if missing:
        raise DataError(
            f"{coco.path}: {len(missing)} of its {len(coco)} image files are missing, the first is {missing[0]}"
        )
