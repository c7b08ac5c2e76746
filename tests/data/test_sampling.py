"""Who sees which image in an epoch."""

import pytest

from tis_ray.data.sampling import ShuffledShare
from tis_ray.errors import DataError


def shares(num_images: int, world_size: int, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    samplers = [ShuffledShare(num_images, seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize("num_images", [1, 2, 5, 6, 12, 13])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_covers_every_image_with_the_fewest_repeats(num_images, world_size):
    dealt = shares(num_images, world_size)
    lengths = {len(share) for share in dealt}
    assert lengths == {-(-num_images // world_size)}
    assert len(ShuffledShare(num_images, seed=0, rank=0, world_size=world_size)) in lengths
    together = [index for share in dealt for index in share]
    assert set(together) == set(range(num_images))
    assert len(together) - num_images < world_size


def test_one_worker_sees_every_image_exactly_once():
    assert sorted(shares(100, 1)[0]) == list(range(100))


def test_the_shuffle_depends_on_seed_and_epoch_alone():
    assert shares(50, 2, seed=4, epoch=3) == shares(50, 2, seed=4, epoch=3)
    assert shares(50, 1, seed=4, epoch=3) != shares(50, 1, seed=4, epoch=4)
    assert shares(50, 1, seed=4, epoch=3) != shares(50, 1, seed=5, epoch=3)


def test_workers_deal_out_the_shuffle_of_a_single_one():
    (alone,), (first, second) = shares(10, 1, seed=1), shares(10, 2, seed=1)
    assert [index for pair in zip(first, second, strict=True) for index in pair] == alone


def test_no_image_is_an_error():
    with pytest.raises(DataError, match="at least 1"):
        ShuffledShare(0, seed=0)
