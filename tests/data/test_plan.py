"""Who sees which image in an epoch."""

import numpy as np
import pytest

from tis_ray.data.plan import EpochPlan, share
from tis_ray.errors import DataError


def plan(num_images: int, batch_size: int = 1, *, seed: int = 0) -> EpochPlan:
    return EpochPlan(lambda chance: np.arange(num_images), batch_size=batch_size, seed=seed)


def shares(num_images: int, world_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> list[list[int]]:
    batches = plan(num_images, seed=seed).batches(epoch)
    dealt = [share(batches, start=start, rank=rank, world_size=world_size) for rank in range(world_size)]
    return [[draw.index for batch in one for draw in batch] for one in dealt]


@pytest.mark.parametrize("num_images", [1, 2, 5, 6, 12, 13])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_covers_every_image_with_the_fewest_repeats(num_images, world_size):
    dealt = shares(num_images, world_size)
    assert {len(one) for one in dealt} == {-(-num_images // world_size)}
    together = [index for one in dealt for index in one]
    assert set(together) == set(range(num_images))
    assert len(together) - num_images < world_size


@pytest.mark.parametrize("batch_size", [1, 3, 7, 200])
def test_one_worker_sees_every_image_exactly_once(batch_size):
    batches = plan(100, batch_size).batches(0)
    assert len(batches) == len(plan(100, batch_size))
    assert sorted(draw.index for batch in batches for draw in batch) == list(range(100))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


def test_the_plan_depends_on_seed_and_epoch_alone():
    assert shares(50, 2, seed=4, epoch=3) == shares(50, 2, seed=4, epoch=3)
    assert shares(50, 1, seed=4, epoch=3) != shares(50, 1, seed=4, epoch=4)
    assert shares(50, 1, seed=4, epoch=3) != shares(50, 1, seed=5, epoch=3)


def test_workers_deal_out_the_plan_of_a_single_one():
    (alone,), (first, second) = shares(10, 1, seed=1), shares(10, 2, seed=1)
    assert [index for pair in zip(first, second, strict=True) for index in pair] == alone


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_another_number_of_workers_goes_on_where_the_others_stopped(world_size):
    (alone,) = shares(13, 1)
    left = [index for one in shares(13, world_size, start=4) for index in one]
    assert set(left) == set(alone[4:]) | set(alone[: -9 % world_size])


def test_no_image_is_an_error():
    with pytest.raises(DataError, match="at least one image"):
        plan(0)
