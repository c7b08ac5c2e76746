"""Which worker sees which image when: one seeded shuffle for each epoch, dealt out evenly."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from tis_ray.errors import DataError


class ShuffledShare(Sampler[int]):
    """One worker's share of a shuffle that depends on nothing but `seed` and the epoch.

    Worker `rank` of `world_size` takes every `world_size`-th index. Every share has the same length, so that all
    workers step equally often: where the images do not divide evenly, the first of the shuffle come a second
    time at its end. With one worker every index comes exactly once per epoch.
    """

    def __init__(self, num_images: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if num_images < 1:
            raise DataError(f"num_images: expected at least 1 to train on; got {num_images}")
        self.num_images, self.seed, self.rank, self.world_size = num_images, seed, rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.num_images // self.world_size)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_images)
        padded = np.resize(order, len(self) * self.world_size)
        return iter(padded[self.rank :: self.world_size].tolist())

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffle of `epoch`, from 0."""
        self.epoch = epoch
