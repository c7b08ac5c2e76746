"""Pictures that a view server takes together, and those that go away meanwhile."""

import asyncio
import threading

import numpy as np

from tests.serving.predictors import OWN, VIEWS, Healthy, look
from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.messages import DeadlineError, Kept, ViewAnswer
from tis_ray.serving.view_server import ViewServer


class Together(Healthy):
    """Takes up to three pictures at once, which it tells apart by their first pixel, and notes who they were. It is
    held before each of its forwards, of which a picture needs two, and cannot take the picture `broken`."""

    def __init__(self, broken: int | None = None) -> None:
        self.taken: list[list[int]] = []
        self.broken = broken
        self.reached, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, image, views):
        return [Instances.empty() for _ in views]

    def pictures_at_once(self, image_hw, views):
        return 3

    def predict_together(self, asked, views, *, masks):
        wanted = [one.wanted() for one in asked]
        self.taken.append([int(one.image[0, 0, 0]) for one in asked])
        for _ in range(2):
            self.reached.release()
            assert self.go.acquire(timeout=30)
            wanted = [before and one.wanted() for before, one in zip(wanted, asked, strict=True)]
        if self.broken in self.taken[-1]:
            raise RuntimeError(f"picture {self.broken} is broken")
        return [[Instances.empty() for _ in views] if one else None for one in wanted]

    def predict_masks(self, image, boxes, labels, views, *, recall, wanted):
        self.taken.append([-int(image[0, 0, 0])])
        return [BoxMasks.empty() for _ in views]

    async def at_work(self) -> None:
        """Once it is held before the next forward."""
        assert await asyncio.to_thread(self.reached.acquire, timeout=30)

    def let_go(self) -> None:
        """It is held no more."""
        self.go.release(1000)


def numbered(number: int, height: int = 8) -> np.ndarray:
    return np.full((height, 8, 3), number, dtype=np.uint8)


async def asked(
    server: ViewServer, *frames: np.ndarray, plan: Plan = OWN, deadline_s: float = 30
) -> list[asyncio.Task]:
    """Calls for these pictures that are all in line."""
    tasks = [asyncio.create_task(look(server, frame, deadline_s=deadline_s, plan=plan)) for frame in frames]
    await asyncio.sleep(0)
    return tasks


def test_pictures_of_one_size_that_wait_at_the_same_time_are_taken_together():
    predictor = Together()
    server = ViewServer(lambda: predictor, VIEWS)

    async def many():
        tasks = await asked(server, numbered(0))
        await predictor.at_work()
        tasks += await asked(server, *(numbered(number) for number in range(1, 6)))
        predictor.let_go()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(many())
    assert predictor.taken == [[0], [1, 2, 3], [4, 5]]
    assert all(len(answer.instances) == len(VIEWS) for answer in answers)
    assert answers[1].seconds == answers[2].seconds > 0


def test_pictures_of_other_sizes_or_plans_are_not():
    predictor = Together()
    server = ViewServer(lambda: predictor, VIEWS)
    boxes = Plan(boxes=True, own_masks=False, masks=False)

    async def many():
        tasks = await asked(server, numbered(0))
        await predictor.at_work()
        tasks += await asked(server, numbered(1), numbered(2, height=9), numbered(3))
        tasks += await asked(server, numbered(4), plan=boxes)
        tasks += await asked(server, numbered(5, height=9))
        predictor.let_go()
        await asyncio.gather(*tasks)

    asyncio.run(many())
    assert predictor.taken == [[0], [1, 3], [2, 5], [4]]


def test_a_second_pass_goes_before_the_first_passes_that_wait():
    predictor = Together()
    server = ViewServer(lambda: predictor, VIEWS)

    async def many():
        tasks = await asked(server, numbered(0))
        await predictor.at_work()
        tasks += await asked(server, numbered(1), numbered(2, height=9))
        nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int32)
        second = server.masks(numbered(3), *nothing, kept=Kept("a picture", ""), deadline_s=30)
        tasks.append(asyncio.create_task(second))
        await asyncio.sleep(0)
        predictor.let_go()
        await asyncio.gather(*tasks)

    asyncio.run(many())
    assert predictor.taken == [[0], [-3], [1], [2]]


def test_a_broken_picture_fails_nobody_that_shared_a_forward_with_it():
    predictor, left = Together(broken=2), []
    server = ViewServer(lambda: predictor, VIEWS, leave=lambda: left.append("the process"))

    async def many():
        tasks = await asked(server, numbered(0))
        await predictor.at_work()
        tasks += await asked(server, numbered(1), numbered(2), numbered(3))
        predictor.let_go()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await server.check_health()
        return answers

    answers = asyncio.run(many())
    assert predictor.taken == [[0], [1, 2, 3], [1], [2], [3]]
    assert [type(answer) for answer in answers] == [ViewAnswer, ViewAnswer, RuntimeError, ViewAnswer]
    assert left == []


def test_a_picture_that_nothing_can_be_said_of_fails_alone_and_keeps_nobody_waiting():
    class Picky(Together):
        def pictures_at_once(self, image_hw, views):
            if image_hw[0] == 9:
                raise ZeroDivisionError("of nine rows")
            return super().pictures_at_once(image_hw, views)

        def predict_together(self, asked, views, *, masks):
            self.pictures_at_once(asked[0].image.shape[:2], views)
            return super().predict_together(asked, views, masks=masks)

    predictor = Picky()
    server = ViewServer(lambda: predictor, VIEWS)

    async def many():
        tasks = await asked(server, numbered(0))
        await predictor.at_work()
        tasks += await asked(server, numbered(1, height=9), numbered(2, height=9), numbered(3))
        predictor.let_go()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    answers = asyncio.run(many())
    assert [type(answer) for answer in answers] == [ViewAnswer, ZeroDivisionError, ZeroDivisionError, ViewAnswer]
    assert predictor.taken == [[0], [3]]


def test_who_goes_away_is_not_taken_or_not_wanted_before_the_next_forward():
    wanted: list[bool] = []

    class Noting(Together):
        def predict_together(self, asked, views, *, masks):
            try:
                return super().predict_together(asked, views, masks=masks)
            finally:
                wanted.extend(one.wanted() for one in asked)

    predictor = Noting()
    server = ViewServer(lambda: predictor, VIEWS)

    async def many():
        tasks = await asked(server, numbered(0))
        await predictor.at_work()
        tasks += await asked(server, numbered(1), numbered(2))
        for task in tasks[:2]:
            task.cancel()
        await asyncio.sleep(0)
        predictor.let_go()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(many())
    assert [type(answer) for answer in answers] == [asyncio.CancelledError, asyncio.CancelledError, ViewAnswer]
    assert predictor.taken == [[0], [2]]
    assert wanted == [False, True]


def test_whose_time_is_up_between_two_forwards_gets_no_answer():
    predictor = Together()
    server = ViewServer(lambda: predictor, VIEWS)

    async def one():
        (task,) = await asked(server, numbered(0), deadline_s=0.2)
        await predictor.at_work()
        await asyncio.sleep(0.3)
        predictor.let_go()
        return await asyncio.gather(task, return_exceptions=True)

    (answer,) = asyncio.run(one())
    assert isinstance(answer, DeadlineError)
