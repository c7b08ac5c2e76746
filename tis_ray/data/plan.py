"""Which images are shown in which batch: one seeded plan for each epoch, the same for every number of workers.

An epoch is a row of batches. Workers take them in turn, so a run may go on with another number of workers, from the
batch where the others stopped.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.sampling import ImageSampler
from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth


class Draw(NamedTuple):
    """One training sample to be made: the image's index in its data set, which time it is shown in this epoch, from 0,
    and whether the data set is the external one.
    """

    index: int
    copy: int = 0
    external: bool = False


class Source(NamedTuple):
    """A data set as a plan sees it: what draws its images, and (N,) which of them are upright, where batches are to
    tell them from the wide ones.
    """

    sampler: ImageSampler
    upright: NDArray[np.bool_] | None = None


class EpochPlan:
    """The batches of each epoch, which depend on nothing but `seed` and the epoch. `len()` is their number.

    upright:  (N,) which images are upright, to go into other batches than the wide ones, or None to mix them
    external: a second data set, of whose images there are further batches among the others; none mixes both

    Batches hold `batch_size` images. What is left of the upright and of the wide ones shares the last batches of a data
    set, so that there are never more of them than without telling them apart; the very last one may be smaller.
    """

    def __init__(
        self,
        sampler: ImageSampler,
        *,
        batch_size: int,
        seed: int,
        upright: NDArray[np.bool_] | None = None,
        external: Source | None = None,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        self._train, self._external = Source(sampler, upright), external
        self.num_draws = len(sampler(np.random.default_rng((seed, 0))))
        if not self.num_draws:
            raise DataError("data.train: expected at least one image to train on; got none")
        self._num_external = 0 if external is None else len(external.sampler(self._chance_of_external(0)))

    def __len__(self) -> int:
        return -(-self.num_draws // self.batch_size) - (-self._num_external // self.batch_size)

    def batches(self, epoch: int) -> list[list[Draw]]:
        """All batches of `epoch`, from 0, in the order in which they are taken."""
        batches = self._of(self._train, np.random.default_rng((self.seed, epoch)), external=False)
        if self._external is None:
            return batches
        chance = self._chance_of_external(epoch)
        batches += self._of(self._external, chance, external=True)
        return [batches[i] for i in chance.permutation(len(batches)).tolist()]

    def _of(self, source: Source, chance: np.random.Generator, *, external: bool) -> list[list[Draw]]:
        """One data set's batches."""
        drawn = chance.permutation(source.sampler(chance))
        copies = _times_before(drawn)
        if source.upright is not None:
            order = by_aspect(source.upright[drawn], self.batch_size)
            drawn, copies = drawn[order], copies[order]
        draws = list(map(Draw, drawn.tolist(), copies.tolist(), repeat(external)))
        return [draws[i : i + self.batch_size] for i in range(0, len(draws), self.batch_size)]

    def _chance_of_external(self, epoch: int) -> np.random.Generator:
        """Of its own: what is drawn of the training set does not depend on whether there is an external one."""
        return np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=(1,)))


def some_of(count: int, *, most: int) -> ImageSampler:
    """A sampler of `most` of `count` images, another choice in each epoch, none twice; of all where there are fewer."""

    def draw(chance: np.random.Generator) -> NDArray[np.int64]:
        return chance.choice(count, size=min(count, most), replace=False)

    return draw


def upright_images(truth: GroundTruth) -> NDArray[np.bool_]:
    """Which images (N,) are higher than wide; square ones are not."""
    return np.fromiter((record.height > record.width for record in truth.images), np.bool_, len(truth))


def by_aspect(upright: NDArray[np.bool_], batch_size: int) -> NDArray[np.int64]:
    """An order (n,) of draws that, cut into batches of `batch_size`, has upright and wide ones in different batches.

    Batches come in the order in which they get full when each draw goes to the unfinished batch of its kind. Behind
    them come the draws whose batches did not get full, upright ones first. The order among one kind does not change:
    draws that are all of one kind stay as they are.
    """
    whole, left = [], []
    for kind in (True, False):
        places = np.flatnonzero(upright == kind)
        full = len(places) - len(places) % batch_size
        whole.append(places[:full].reshape(-1, batch_size))
        left.append(places[full:])
    batches = np.concatenate(whole)
    return np.concatenate([batches[np.argsort(batches[:, -1])].ravel(), *left])


def share(batches: Sequence[list[Draw]], *, start: int, rank: int, world_size: int) -> list[list[Draw]]:
    """What worker `rank` of `world_size` takes of an epoch's batches from number `start` on: every `world_size`-th.

    Every share has the same length, so that all workers step equally often: where batches do not divide evenly, the
    first of the epoch come a second time at its end.
    """
    left = list(batches[start:])
    padding = -len(left) % world_size
    left += [batches[i % len(batches)] for i in range(padding)]
    return left[rank::world_size]


def _times_before(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of the drawn indices (n,) how often it stands before: 4, 2, 4, 4 gives 0, 0, 1, 2."""
    order = np.argsort(drawn, kind="stable")
    places, in_order = np.arange(len(drawn)), drawn[order]
    first = np.concatenate([[True], in_order[1:] != in_order[:-1]])[: len(drawn)]
    times = np.empty_like(places)
    times[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return times
