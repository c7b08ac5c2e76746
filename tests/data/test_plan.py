"""Who sees which image in an epoch."""

import time

import numpy as np
import pytest

from tis_ray.data.plan import Draw, EpochPlan, Source, by_aspect, share, some_of
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


# ------------------------------------------------------------------------------------------ Shown several times


def test_draws_count_how_often_their_image_came_before():
    drawn = np.repeat([3, 1, 0, 5], [4, 1, 2, 3])
    for epoch in range(5):
        seen: dict[int, int] = {}
        for draw in (d for batch in EpochPlan(lambda _: drawn, batch_size=3, seed=0).batches(epoch) for d in batch):
            assert draw.copy == seen.get(draw.index, 0)
            seen[draw.index] = draw.copy + 1
        assert seen == {3: 4, 1: 1, 0: 2, 5: 3}


# ------------------------------------------------------------------------------------------ Upright and wide


def filled(upright: list[bool], batch_size: int) -> list[list[int]]:
    """Full batches of one kind as they fill up when draws come one by one, and what is left."""
    open_batches: dict[bool, list[int]] = {True: [], False: []}
    full = []
    for i, kind in enumerate(upright):
        open_batches[kind].append(i)
        if len(open_batches[kind]) == batch_size:
            full.append(open_batches[kind])
            open_batches[kind] = []
    left = open_batches[True] + open_batches[False]
    return full + [left[i : i + batch_size] for i in range(0, len(left), batch_size)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 24, 61])
@pytest.mark.parametrize("share_of_upright", [0.0, 0.1, 0.5, 1.0])
def test_batches_fill_up_kind_by_kind(count, batch_size, share_of_upright):
    upright = np.random.default_rng(count).random(count) < share_of_upright
    order = by_aspect(upright, batch_size).tolist()
    assert [order[i : i + batch_size] for i in range(0, count, batch_size)] == filled(upright.tolist(), batch_size)
    if share_of_upright in (0, 1):
        assert order == list(range(count))


def test_upright_and_wide_images_meet_in_what_is_left_alone():
    upright = np.random.default_rng(0).random(100) < 0.3
    grouped = EpochPlan(lambda _: np.arange(100), batch_size=4, seed=0, upright=upright)
    for epoch in range(10):
        batches = grouped.batches(epoch)
        assert len(batches) == len(grouped) == 25
        assert sorted(draw.index for batch in batches for draw in batch) == list(range(100))
        mixed = [i for i, batch in enumerate(batches) if len({bool(upright[draw.index]) for draw in batch}) > 1]
        assert mixed in ([], [24])


@pytest.mark.parametrize("kind", [False, True])
def test_images_of_one_kind_are_batched_as_if_nobody_asked(kind):
    grouped = EpochPlan(lambda _: np.arange(23), batch_size=4, seed=5, upright=np.full(23, kind))
    for epoch in range(3):
        assert grouped.batches(epoch) == plan(23, 4, seed=5).batches(epoch)


def test_an_image_shown_again_is_of_the_same_kind_and_counted_in_order():
    upright = np.array([True, False, True])
    repeated = EpochPlan(lambda _: np.repeat([0, 1, 2], 5), batch_size=2, seed=0, upright=upright)
    draws = [draw for batch in repeated.batches(0) for draw in batch]
    for index in range(3):
        assert [draw.copy for draw in draws if draw.index == index] == list(range(5))


# ------------------------------------------------------------------------------------------ External images


def joint(num_images: int, num_external: int, *, most: int, batch_size: int = 2, seed: int = 0) -> EpochPlan:
    external = Source(some_of(num_external, most=most))
    return EpochPlan(lambda _: np.arange(num_images), batch_size=batch_size, seed=seed, external=external)


def test_batches_are_of_one_data_set():
    of_both = joint(21, 100, most=9)
    for epoch in range(5):
        batches = of_both.batches(epoch)
        assert len(batches) == len(of_both) == 11 + 5
        assert all(len({draw.external for draw in batch}) == 1 for batch in batches)
        drawn = [draw for batch in batches for draw in batch]
        assert sorted(draw.index for draw in drawn if not draw.external) == list(range(21))
        external = [draw.index for draw in drawn if draw.external]
        assert len(external) == len(set(external)) == 9
        assert set(external) <= set(range(100))


def test_epochs_draw_other_external_images_and_all_where_they_are_few():
    few, many = joint(4, 5, most=9), joint(4, 100, most=9)
    of = [{draw.index for batch in many.batches(epoch) for draw in batch if draw.external} for epoch in range(40)]
    assert of[0] != of[1]
    assert len(set().union(*of)) > 90
    drawn = [draw for batch in few.batches(3) for draw in batch if draw.external]
    assert sorted(draw.index for draw in drawn) == list(range(5))


def test_both_data_sets_are_spread_over_the_epoch():
    places = [i for e in range(20) for i, b in enumerate(joint(50, 50, most=50).batches(e)) if b[0].external]
    assert abs(np.mean(places) - 24.5) < 2
    assert {0, 49} < set(places)


def test_the_training_sets_batches_do_not_depend_on_external_ones():
    alone = {tuple(batch) for batch in plan(21, 2, seed=3).batches(2)}
    beside = {tuple(batch) for batch in joint(21, 30, most=10, seed=3).batches(2) if not batch[0].external}
    assert beside == alone
    assert all(type(draw) is Draw for batch in beside for draw in batch)


def test_a_long_epoch_is_planned_in_no_time():
    """A bound far above what it takes (a tenth of a second), far below a loop over draws that look each other up."""
    upright = np.random.default_rng(0).random(120_000) < 0.3
    long = EpochPlan(lambda _: np.arange(120_000), batch_size=2, seed=0, upright=upright)
    started = time.process_time()
    assert len(long.batches(0)) == 60_000
    assert time.process_time() - started < 2
