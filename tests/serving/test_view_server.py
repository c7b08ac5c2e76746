"""A view server without Ray, over a real tiny detector."""

import asyncio
import threading
import time

import numpy as np
import pytest

from tests.tiny import CATEGORIES
from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.loading import load_predictor
from tis_ray.serving.messages import DeadlineError, Kept, ViewAnswer
from tis_ray.serving.view_server import ViewServer
from tis_ray.views import View

VIEWS = (View("one", 64), View("one", 64, True))
MEMORY = {"feature_bytes": 2**26, "feature_age_s": 60}
OWN = Plan(boxes=True, own_masks=True, masks=False)


def look(server: ViewServer, frame: np.ndarray, *, deadline_s: float, plan: Plan = OWN):
    """The server's answer to the first pass."""
    return server.segment(frame, plan=plan, key="a picture", deadline_s=deadline_s)


def test_answers_for_its_views_like_the_predictor(tiny_checkpoint, picture):
    server = ViewServer(lambda: load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", **MEMORY), VIEWS)
    frame = picture.copy()
    frame.setflags(write=False)  # as it comes out of the object store
    answer = asyncio.run(look(server, frame, deadline_s=30))
    expected = Predictor.from_checkpoint(tiny_checkpoint, device="cpu").predict(picture, VIEWS)
    assert answer.seconds > 0
    for found, own in zip(answer.instances, expected, strict=True):
        np.testing.assert_array_equal(found.boxes, own.boxes)
        np.testing.assert_array_equal(found.masks.probabilities, own.masks.probabilities)
    np.testing.assert_array_equal(frame, picture)


class Healthy:
    """A predictor whose device computes, and which never takes two pictures at once."""

    memory = FeatureMemory(0)

    def check_device(self):
        pass

    def pictures_at_once(self, image_hw, views):
        return 1

    def predict_together(self, asked, views, *, masks):
        assert len(asked) <= self.pictures_at_once(asked[0].image.shape[:2], views)
        return [self.predict(one.image, views, masks=masks) if one.wanted() else None for one in asked]


class Slow(Healthy):
    """Takes 50 ms and notes how many calls run at the same time."""

    def __init__(self) -> None:
        self.running = self.most = self.calls = 0
        self.lock = threading.Lock()

    def predict(self, image, views, **asked):
        with self.lock:
            self.running += 1
            self.calls += 1
            self.most = max(self.most, self.running)
        time.sleep(0.05)
        with self.lock:
            self.running -= 1
        return [Instances.empty() for _ in views]


def test_warms_every_scale_up_though_the_crops_miss_the_small_picture():
    seen = []

    class Noting(Slow):
        def predict(self, image, views, **asked):
            seen.extend((view.scale, view.flip, view.tiles(image.shape[:2]) == (view,)) for view in views)
            return super().predict(image, views, **asked)

    looks = ({"crop": (0, 1560, 3384, 2280)}, {"tile": (8, 8, 0)})
    ViewServer(Noting, (*VIEWS, *(View("one", 72, flip, **look) for look in looks for flip in (False, True))))
    assert seen == [(64, False, True), (64, True, True), (72, False, True), (72, True, True)]


def test_one_forward_at_a_time_however_many_requests(picture):
    predictor = Slow()
    server = ViewServer(lambda: predictor, VIEWS)

    async def many():
        await asyncio.gather(*(look(server, picture, deadline_s=30) for _ in range(5)))

    asyncio.run(many())
    assert (predictor.most, predictor.calls) == (1, 6)  # the sixth is the warm-up


def test_a_request_whose_time_is_up_costs_no_forward(picture):
    predictor = Slow()
    server = ViewServer(lambda: predictor, VIEWS)

    async def two():
        return await asyncio.gather(
            look(server, picture, deadline_s=30), look(server, picture, deadline_s=0.01), return_exceptions=True
        )

    first, second = asyncio.run(two())
    assert len(first.instances) == 2
    assert isinstance(second, DeadlineError)
    assert predictor.calls == 2  # the warm-up and the first


def test_a_broken_model_shows_when_the_replica_starts():
    class Broken(Healthy):
        def predict(self, image, views, **asked):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        ViewServer(Broken, VIEWS)


class Failing(Healthy):
    """Fails on its calls number `failures`, counted from the warm-up, 0."""

    def __init__(self, *failures: int) -> None:
        self.calls, self.failures = -1, failures

    def predict(self, image, views, **asked):
        self.calls += 1
        if self.calls in self.failures:
            raise RuntimeError(f"failure {self.calls}")
        return [Instances.empty() for _ in views]


async def fail_once(server: ViewServer, picture: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="failure 1"):
        await look(server, picture, deadline_s=30)


def test_healthy_after_a_failure_that_was_one_images_alone(picture):
    server = ViewServer(lambda: Failing(1), VIEWS)

    async def check():
        await server.check_health()
        await fail_once(server, picture)
        await server.check_health()

    asyncio.run(check())


def test_unhealthy_for_good_once_the_warm_up_image_fails_too(picture):
    server = ViewServer(lambda: Failing(1, 2), VIEWS)

    async def check():
        await fail_once(server, picture)
        await look(server, picture, deadline_s=30)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="failure 2"):
                await server.check_health()

    asyncio.run(check())


def test_unhealthy_while_a_forward_hangs(picture):
    release = threading.Event()

    class Hanging(Slow):
        def predict(self, image, views, **asked):
            if self.calls:
                release.wait(30)
            return super().predict(image, views, **asked)

    server = ViewServer(Hanging, VIEWS, stuck_after_s=0.2)

    async def check():
        forward = asyncio.create_task(look(server, picture, deadline_s=30))
        await asyncio.sleep(0.5)
        with pytest.raises(DeadlineError, match=r"busy for more than 0\.2 s"):
            await server.check_health()
        release.set()
        await forward
        await server.check_health()

    asyncio.run(check())


def test_unhealthy_while_the_warm_up_image_hangs_after_a_failure(picture):
    release = threading.Event()

    class Hanging(Failing):
        def predict(self, image, views, **asked):
            if self.calls == 1:
                release.wait(30)
            return super().predict(image, views, **asked)

    server = ViewServer(lambda: Hanging(1), VIEWS, stuck_after_s=0.2)

    async def check():
        failing = asyncio.create_task(fail_once(server, picture))
        await asyncio.sleep(0.5)
        with pytest.raises(DeadlineError, match=r"busy for more than 0\.2 s"):
            await server.check_health()
        release.set()
        await failing
        await server.check_health()

    asyncio.run(check())


def test_unhealthy_for_good_once_the_device_no_longer_computes():
    class Lost(Failing):
        broken = False

        def check_device(self):
            if self.broken:
                raise RuntimeError("the device is lost")

    predictor, left = Lost(), []
    server = ViewServer(lambda: predictor, VIEWS, leave=lambda: left.append("the process"))

    async def check():
        await server.check_health()
        predictor.broken = True
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the device is lost"):
                await server.check_health()
            predictor.broken = False  # too late: what came after the failure cannot be trusted

    asyncio.run(check())
    assert left == ["the process"]


@pytest.mark.parametrize(
    ("failures", "expected"),
    [pytest.param((1,), [], id="one bad image"), pytest.param((1, 2), ["the process"], id="broken for good")],
)
def test_a_replica_leaves_once_it_is_broken_for_good(picture, failures, expected):
    left = []
    server = ViewServer(lambda: Failing(*failures), VIEWS, leave=lambda: left.append("the process"))
    asyncio.run(fail_once(server, picture))
    assert left == expected


def test_healthy_at_once_while_a_forward_takes_long(picture):
    release = threading.Event()

    class Long(Slow):
        def predict(self, image, views, **asked):
            if self.calls:
                release.wait(30)
            return super().predict(image, views, **asked)

        def check_device(self):
            assert not self.running, "the model's device was asked during a forward"

    server = ViewServer(Long, VIEWS)

    async def check():
        forward = asyncio.create_task(look(server, picture, deadline_s=30))
        start = time.monotonic()
        for _ in range(3):
            await server.check_health()
        took_s = time.monotonic() - start
        release.set()
        await forward
        await server.check_health()
        return took_s

    assert asyncio.run(check()) < 10


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
