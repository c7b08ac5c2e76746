"""Ten times too much work for a real gateway before a fusion that takes one picture at a time, in virtual time."""

import asyncio
import io
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from tests.virtual_time import Inline, run_in_virtual_time
from tis_ray.config import Limits
from tis_ray.instances import Categories, Instances
from tis_ray.serving.admission import Pace
from tis_ray.serving.gateway import Gateway
from tis_ray.serving.messages import DeadlineError, FusedAnswer, ViewReport
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.schemas import SegmentQuery
from tis_ray.views import View

FORWARD_S = 0.5
DEADLINE_S = 20.0
REPORTS = (ViewReport(View("a", 64), "ok", FORWARD_S),)


@dataclass(frozen=True)
class Fate:
    """What became of a request that came at `at_s`, counted from the first."""

    at_s: float
    seconds: float
    status: int
    retry_after_s: int = 0


class House:
    """A gateway, and a fusion that is busy for `FORWARD_S` with each picture and drops those whose time is up."""

    def __init__(self, *, forward_s: float = FORWARD_S, **limits) -> None:
        self.forward_s = forward_s
        self.device = asyncio.Lock()
        self.frames = self.most_frames = self.busy = 0
        self.gateway = Gateway(
            self.fuse,
            put=lambda pixels: pixels,
            categories=Categories((1,), ("car",)),
            limits=Limits(deadline_s=DEADLINE_S, **limits),
            model_version="0123456789ab",
            pace=Pace(clock=lambda: time.monotonic()),
        )
        self.gateway._decoder._threads = Inline()
        self.began_s = time.monotonic()

    async def fuse(self, frame, *, image_hw, deadline_s, explain) -> FusedAnswer:
        self.frames += 1
        self.most_frames = max(self.most_frames, self.frames)
        try:
            async with asyncio.timeout(deadline_s), self.device:
                await asyncio.sleep(self.forward_s)
                self.busy += 1
        except TimeoutError:
            raise DeadlineError("late") from None
        finally:
            self.frames -= 1
        return FusedAnswer(Instances.empty(), REPORTS, self.forward_s, 0.0)

    async def ask(self, deadline_s: float = DEADLINE_S) -> Fate:
        start = time.monotonic()
        query = SegmentQuery.model_validate({"deadline_s": deadline_s})
        at_s = start - self.began_s
        try:
            deadline = self.gateway.deadline(query)
            with self.gateway.admitted(deadline):
                await asyncio.sleep(0.01)  # the body comes
                await self.gateway.segment(PICTURE, query, deadline)
        except ProblemError as problem:
            return Fate(at_s, time.monotonic() - start, problem.status, int(problem.headers.get("Retry-After", "0")))
        return Fate(at_s, time.monotonic() - start, 200)

    async def offered(self, every_s: float, count: int) -> list[Fate]:
        """What becomes of requests that come evenly, whatever became of those before."""
        tasks = []
        for _ in range(count):
            tasks.append(asyncio.create_task(self.ask()))
            await asyncio.sleep(every_s)
        return await asyncio.gather(*tasks)


def png(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


PICTURE = png(10, 10)


def test_who_is_let_in_is_answered_in_time_and_who_is_not_hears_so_at_once(monkeypatch):
    async def story() -> tuple[House, list[Fate]]:
        house = House()
        await house.offered(4 * FORWARD_S, 5)  # a quiet while before
        return house, await house.offered(FORWARD_S / 10, 1200)

    house, fates = run_in_virtual_time(story(), monkeypatch)
    answered = [fate for fate in fates if fate.status == 200]
    assert Counter(fate.status for fate in fates).keys() == {200, 503}
    assert max(fate.seconds for fate in answered) < DEADLINE_S
    assert max(fate.seconds for fate in fates if fate.status == 503) < 0.05
    assert len(answered) > 1200 / 10  # the device was never idle, and in the end those who waited were answered too
    assert house.busy == len(answered) + 5  # and did nothing in vain
    assert all(fate.retry_after_s >= 1 for fate in fates if fate.status == 503)


def test_a_crowd_that_comes_all_at_once_is_refused_as_soon_as_its_pictures_have_come(monkeypatch):
    async def story() -> list[Fate]:
        house = House(max_queued_requests=500)
        await house.offered(4 * FORWARD_S, 5)
        return await asyncio.gather(*(house.ask() for _ in range(300)))

    fates = run_in_virtual_time(story(), monkeypatch)
    answered = [fate for fate in fates if fate.status == 200]
    assert 0.5 * DEADLINE_S < max(fate.seconds for fate in answered) < DEADLINE_S
    assert {round(fate.seconds, 3) for fate in fates if fate.status == 503} == {0.01}
    assert len(answered) > 0.5 * DEADLINE_S / FORWARD_S


def test_who_comes_back_when_it_was_told_is_let_in_if_nobody_else_came(monkeypatch):
    async def story() -> tuple[list[int], Fate, Fate]:
        house = House(max_queued_requests=500)
        await house.offered(4 * FORWARD_S, 5)
        crowd = [asyncio.create_task(house.ask()) for _ in range(60)]
        await asyncio.sleep(0.1)
        refused = await house.ask(deadline_s=10)
        await asyncio.sleep(refused.retry_after_s - 2)
        too_early = await house.ask(deadline_s=10)
        await asyncio.sleep(2)
        back = await house.ask(deadline_s=10)
        await asyncio.gather(*crowd)
        return refused, too_early, back

    refused, too_early, back = run_in_virtual_time(story(), monkeypatch)
    assert refused.status == too_early.status == 503
    assert 3 <= refused.retry_after_s <= DEADLINE_S
    assert back.status == 200


def test_normal_again_as_soon_as_the_crowd_has_gone(monkeypatch):
    async def story() -> Fate:
        house = House()
        await house.offered(4 * FORWARD_S, 5)
        await house.offered(FORWARD_S / 10, 600)
        return await house.ask()

    fate = run_in_virtual_time(story(), monkeypatch)
    assert fate.status == 200
    assert fate.seconds == pytest.approx(FORWARD_S, abs=0.1)


def test_a_service_that_became_slower_lets_fewer_in_and_more_again_once_it_has_recovered(monkeypatch):
    async def story() -> list[list[Fate]]:
        house, fates = House(), []
        await house.offered(4 * FORWARD_S, 5)
        for forward_s in (FORWARD_S, 8 * FORWARD_S, FORWARD_S):
            house.forward_s = forward_s
            fates.append(await house.offered(FORWARD_S / 4, 800))
        return fates

    before, slow, after = run_in_virtual_time(story(), monkeypatch)
    numbers = [Counter(fate.status for fate in fates) for fates in (before, slow, after)]
    assert numbers[0][504] == numbers[2][504] == 0
    surprised = [fate for fate in slow if fate.status not in (200, 503) or (fate.status == 503 and fate.seconds > 1)]
    assert max((fate.at_s for fate in surprised), default=0) - slow[0].at_s < 2 * DEADLINE_S
    assert 20 <= numbers[1][200] <= 40
    assert numbers[2][200] > 0.8 * numbers[0][200]


def test_decoded_pictures_are_bounded_in_pixels_and_who_finds_no_room_in_time_is_refused(monkeypatch):
    async def story() -> tuple[House, list[Fate]]:
        house = House(forward_s=4.0, max_decoded_pixels=350)
        fates = await asyncio.gather(*(house.ask() for _ in range(9)))  # of 100 pixels each
        return house, fates

    house, fates = run_in_virtual_time(story(), monkeypatch)
    assert house.most_frames == 3
    assert house.frames == 0
    statuses = Counter(fate.status for fate in fates)
    assert statuses == {200: 4, 503: 5}
    assert max(fate.seconds for fate in fates) < DEADLINE_S
