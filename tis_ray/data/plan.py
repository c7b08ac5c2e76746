"""Which images are shown in which batch: one seeded plan for each epoch, the same for every number of workers.

An epoch is a row of batches. Workers take them in turn, so a run may go on with another number of workers, from the
batch where the others stopped.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tis_ray.data.sampling import ImageSampler
from tis_ray.errors import DataError


class Draw(NamedTuple):
    """One training sample to be made: the image's index in its data set, which time it is shown in this epoch, from 0,
    and whether the data set is the external one.
    """

    index: int
    copy: int = 0
    external: bool = False


class EpochPlan:
    """The batches of each epoch, which depend on nothing but `seed` and the epoch. `len()` is their number.

    The last one may be smaller.
    """

    def __init__(self, sampler: ImageSampler, *, batch_size: int, seed: int) -> None:
        self.sampler, self.batch_size, self.seed = sampler, batch_size, seed
        self.num_draws = len(sampler(np.random.default_rng((seed, 0))))
        if not self.num_draws:
            raise DataError("data.train: expected at least one image to train on; got none")

    def __len__(self) -> int:
        return -(-self.num_draws // self.batch_size)

    def batches(self, epoch: int) -> list[list[Draw]]:
        """All batches of `epoch`, from 0, in the order in which they are taken."""
        chance = np.random.default_rng((self.seed, epoch))
        drawn = chance.permutation(self.sampler(chance))
        draws = [Draw(index) for index in drawn.tolist()]
        return [draws[i : i + self.batch_size] for i in range(0, len(draws), self.batch_size)]


def share(batches: Sequence[list[Draw]], *, start: int, rank: int, world_size: int) -> list[list[Draw]]:
    """What worker `rank` of `world_size` takes of an epoch's batches from number `start` on: every `world_size`-th.

    Every share has the same length, so that all workers step equally often: where batches do not divide evenly, the
    first of the epoch come a second time at its end.
    """
    left = list(batches[start:])
    padding = -len(left) % world_size
    left += [batches[i % len(batches)] for i in range(padding)]
    return left[rank::world_size]
