"""Room for so many pixels, in the order of coming."""

import asyncio
import random

from tis_ray.serving.places import Places


def run(story) -> None:
    asyncio.run(story())


async def started(*asked) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(one) for one in asked]
    await asyncio.sleep(0.01)
    return tasks


def test_who_fits_in_waits_for_nobody():
    async def story():
        places = Places(10)
        assert [await places.take(pixels) for pixels in (4, 6)] == [4, 6]

    run(story)


def test_who_does_not_fit_in_waits_and_nobody_overtakes():
    async def story():
        places = Places(10)
        held = await places.take(4)
        large, small = await started(places.take(8), places.take(1))
        assert not large.done()
        assert not small.done()
        places.give_back(held)
        assert await asyncio.gather(large, small) == [8, 1]

    run(story)


def test_one_that_is_larger_than_all_the_room_gets_in_alone():
    async def story():
        places = Places(10)
        held = await places.take(1)
        (large,) = await started(places.take(25))
        assert not large.done()
        places.give_back(held)
        assert await large == 10
        (small,) = await started(places.take(1))
        assert not small.done()
        places.give_back(10)
        assert await small == 1

    run(story)


def test_who_goes_away_while_waiting_makes_way():
    async def story():
        places = Places(10)
        await places.take(6)
        large, small = await started(places.take(8), places.take(3))
        large.cancel()
        assert await small == 3
        assert large.cancelled()

    run(story)


def test_room_that_is_given_to_one_who_just_went_away_is_not_lost():
    async def story():
        places = Places(10)
        held = await places.take(10)
        (one,) = await started(places.take(10))
        places.give_back(held)
        one.cancel()  # before it could run again
        await asyncio.gather(one, return_exceptions=True)
        assert one.cancelled()
        assert await asyncio.wait_for(places.take(10), 1) == 10

    run(story)


def test_room_that_comes_free_in_the_moment_in_which_one_goes_away_is_for_the_next():
    async def story():
        places = Places(10)
        held = await places.take(10)
        gone, other = await started(places.take(5), places.take(10))
        gone.cancel()
        places.give_back(held)  # before it could run again
        assert await asyncio.wait_for(other, 1) == 10
        places.give_back(10)
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        assert await asyncio.wait_for(places.take(10), 1) == 10

    run(story)


def test_all_room_is_free_again_whoever_went_away_when():
    async def one(places: Places, rng: random.Random) -> None:
        held = await places.take(rng.randint(1, 6))
        try:
            await asyncio.sleep(0 if rng.random() < 0.5 else 0.001)
        finally:
            places.give_back(held)

    async def story():
        rng, places = random.Random(0), Places(10)
        tasks = [asyncio.create_task(one(places, rng)) for _ in range(300)]
        while any(not task.done() for task in tasks):
            rng.choice(tasks).cancel()
            await asyncio.sleep(0)
        assert {type(task.exception()) for task in tasks if not task.cancelled()} == {type(None)}
        assert await asyncio.wait_for(places.take(10), 1) == 10

    run(story)
