"""Batches for training, read by this process or by several loader processes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tis_ray.data.dataset import Sample, TrainingSet
from tis_ray.data.plan import Draw, EpochPlan, share
from tis_ray.errors import TisRayError
from tis_ray.instances import Annotations


class Batch(NamedTuple):
    """B training images of any sizes: uint8 (3, h_i, w_i), their ground truth and ids.

    All of its losses count `loss_weight` times.
    """

    images: list[Tensor]
    annotations: list[Annotations]
    image_ids: list[int]
    loss_weight: float = 1.0


class Batches:
    """The batches of one worker, epoch by epoch. `len()` is the number of batches in an epoch, of all workers together.

    `pin_memory` speeds up copies to a GPU.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        plan: EpochPlan,
        *,
        rank: int = 0,
        world_size: int = 1,
        loader_processes: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._dataset, self._plan = dataset, plan
        self.rank, self.world_size = rank, world_size
        self._loader_processes, self._pin_memory = loader_processes, pin_memory

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """This worker's batches of `epoch`, from 0, of those from number `start` on. As many for every worker.

        Raises `DataError` when a broken image's turn comes.
        """
        self._dataset.set_epoch(epoch)
        mine = share(self._plan.batches(epoch), start=start, rank=self.rank, world_size=self.world_size)
        loader = DataLoader(
            _Caught(self._dataset),
            batch_sampler=mine,
            num_workers=self._loader_processes,
            collate_fn=_collate,
            pin_memory=self._pin_memory,
        )
        for batch in loader:
            if isinstance(batch, TisRayError):
                raise batch
            yield batch


class _Caught(Dataset[Sample | TisRayError]):
    """Hands a user's mistake on as a value: raised in a loader process, it would arrive wrapped in a stack trace."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> Sample | TisRayError:
        try:
            return self.dataset[draw]
        except TisRayError as error:
            return error


def _collate(samples: Sequence[Sample | TisRayError]) -> Batch | TisRayError:
    for sample in samples:
        if isinstance(sample, TisRayError):
            return sample
    images, annotations, image_ids = zip(*samples, strict=True)
    return Batch(list(images), list(annotations), list(image_ids))
