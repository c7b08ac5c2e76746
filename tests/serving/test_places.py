"""Room for so many pixels, in the order of coming."""

import asyncio

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
