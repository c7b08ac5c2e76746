"""Batches for training, read by this process or by several loader processes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tis_ray.data.dataset import TrainingSet
from tis_ray.data.plan import Draw, EpochPlan, share
from tis_ray.errors import TisRayError
from tis_ray.instances import Annotations


class Batch(NamedTuple):
    """B training images of any sizes: uint8 (3, h_i, w_i), their ground truth and ids.

    All of its losses count `loss_weight` times. `external` says that images and ids are those of the external data.
    """

    images: list[Tensor]
    annotations: list[Annotations]
    image_ids: list[int]
    loss_weight: float = 1.0
    external: bool = False


class Batches:
    """The batches of one worker, epoch by epoch. `len()` is the number of batches in an epoch, of all workers together.

    external:    the data set of those draws that the plan marks as external
    loss_weight: what the losses of its batches count
    pin_memory:  speeds up copies to a GPU
    """

    def __init__(
        self,
        dataset: TrainingSet,
        plan: EpochPlan,
        *,
        external: TrainingSet | None = None,
        loss_weight: float = 1.0,
        rank: int = 0,
        world_size: int = 1,
        loader_processes: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._plan = plan
        self._sources = _Sources(dataset, external, loss_weight)
        self.rank, self.world_size = rank, world_size
        self._loader_processes, self._pin_memory = loader_processes, pin_memory

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """This worker's batches of `epoch`, from 0, of those from number `start` on. As many for every worker.

        Raises `DataError` when a broken image's turn comes.
        """
        self._sources.set_epoch(epoch)
        loader = DataLoader(
            self._sources,
            batch_sampler=share(self._plan.batches(epoch), start=start, rank=self.rank, world_size=self.world_size),
            num_workers=self._loader_processes,
            collate_fn=_as_it_is,
            pin_memory=self._pin_memory,
        )
        for batch in loader:
            if isinstance(batch, TisRayError):
                raise batch
            yield batch


class _Sources(Dataset[Batch | TisRayError]):
    """The training set and perhaps an external one, read by whole batches, each from one of them."""

    def __init__(self, train: TrainingSet, external: TrainingSet | None, loss_weight: float) -> None:
        self.train, self.external, self.loss_weight = train, external, loss_weight

    def set_epoch(self, epoch: int) -> None:
        for dataset in (self.train, self.external):
            if dataset is not None:
                dataset.set_epoch(epoch)

    def __getitem__(self, draw: Draw) -> Batch | TisRayError:
        return self.__getitems__([draw])

    def __getitems__(self, draws: list[Draw]) -> Batch | TisRayError:
        """A user's mistake is handed on as a value: raised in a loader process, it would arrive in a stack trace."""
        external = draws[0].external
        dataset = self.external if external else self.train
        assert dataset is not None
        try:
            images, annotations, image_ids = zip(*(dataset[draw] for draw in draws), strict=True)
        except TisRayError as error:
            return error
        weight = self.loss_weight if external else 1.0
        return Batch(list(images), list(annotations), list(image_ids), weight, external)


def _as_it_is(batch: Any) -> Any:
    return batch
