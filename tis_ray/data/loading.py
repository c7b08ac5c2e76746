"""Batches for training, read by this process or by several loader processes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tis_ray.data.dataset import Sample, TrainingSet
from tis_ray.data.sampling import ShuffledShare
from tis_ray.errors import TisRayError
from tis_ray.instances import Annotations


class Batch(NamedTuple):
    """B training images of any sizes: uint8 (3, h_i, w_i), their ground truth and ids."""

    images: list[Tensor]
    annotations: list[Annotations]
    image_ids: list[int]


class Batches:
    """The batches of one worker, epoch by epoch. `len()` is their number in an epoch, the same for every worker.

    The last batch of an epoch may be smaller. `pin_memory` speeds up copies to a GPU.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        sampler: ShuffledShare,
        *,
        batch_size: int,
        loader_processes: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._dataset, self._sampler = dataset, sampler
        self._loader = DataLoader(
            _Caught(dataset),
            batch_size=batch_size,
            sampler=sampler,
            num_workers=loader_processes,
            collate_fn=_collate,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of `epoch`, from 0. Raises `DataError` when a broken image's turn comes."""
        self._dataset.set_epoch(epoch)
        self._sampler.set_epoch(epoch)
        for batch in self._loader:
            if isinstance(batch, TisRayError):
                raise batch
            yield batch


class _Caught(Dataset[Sample | TisRayError]):
    """Hands a user's mistake on as a value: raised in a loader process, it would arrive wrapped in a stack trace."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Sample | TisRayError:
        try:
            return self.dataset[index]
        except TisRayError as error:
            return error


def _collate(samples: Sequence[Sample | TisRayError]) -> Batch | TisRayError:
    for sample in samples:
        if isinstance(sample, TisRayError):
            return sample
    images, annotations, image_ids = zip(*samples, strict=True)
    return Batch(list(images), list(annotations), list(image_ids))
