"""A view server without Ray, over a real tiny detector."""

import asyncio
import threading
import time
from functools import partial

import numpy as np
import pytest

from tests.tiny import CATEGORIES, save_tiny_checkpoint
from tis_ray.errors import InputError
from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories, Instances
from tis_ray.serving.messages import DeadlineError, Kept
from tis_ray.serving.view_server import ViewServer, load_predictor
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


BOXES = np.array([[5, 5, 40, 30], [30.5, 20.25, 90, 75], [0, 0, 112, 80]], dtype=np.float32)
LABELS = np.array([0, 2, 1], dtype=np.int32)
MASKS_TO_COME = [
    pytest.param(Plan(boxes=False, own_masks=False, masks=True), id="features alone"),
    pytest.param(Plan(boxes=True, own_masks=False, masks=True), id="boxes and features"),
]


async def both_passes(server: ViewServer, frame: np.ndarray, plan: Plan, *, times: int = 1):
    first = await look(server, frame, deadline_s=30, plan=plan)
    return first, [await server.masks(frame, BOXES, LABELS, kept=first.kept, deadline_s=30) for _ in range(times)]


@pytest.mark.parametrize("plan", MASKS_TO_COME)
def test_masks_come_from_the_features_of_the_first_pass_which_are_then_forgotten(tiny_checkpoint, picture, plan):
    server = ViewServer(
        lambda: load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", **MEMORY), VIEWS, name=lambda: "replica 7"
    )
    first, answers = asyncio.run(both_passes(server, picture, plan, times=2))
    assert first.kept == Kept("a picture", "replica 7")
    assert [answer.recalled for answer in answers] == [True, False]
    predictor = Predictor.from_checkpoint(tiny_checkpoint, device="cpu")
    expected = predictor.predict(picture, VIEWS) if plan.boxes else []
    for found, own in zip(first.instances, expected, strict=True):
        np.testing.assert_array_equal(found.boxes, own.boxes)
        assert found.masks is None
    for answer in answers:
        assert answer.seconds > 0
        for masks, own in zip(answer.masks, predictor.predict_masks(picture, BOXES, LABELS, VIEWS), strict=True):
            np.testing.assert_array_equal(masks.probabilities, own.probabilities)
            np.testing.assert_array_equal(masks.present, own.present)


def test_without_memory_the_masks_are_the_same(tiny_checkpoint, picture):
    plan = MASKS_TO_COME[0].values[0]
    answers = []
    for feature_bytes in (0, 2**26):
        load = partial(
            load_predictor, tiny_checkpoint, CATEGORIES, device="cpu", feature_bytes=feature_bytes, feature_age_s=60
        )
        answers += asyncio.run(both_passes(ViewServer(load, VIEWS), picture, plan))[1]
    assert [answer.recalled for answer in answers] == [False, True]
    for one, other in zip(*(answer.masks for answer in answers), strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_features_are_kept_only_where_a_second_pass_is_to_follow(tiny_checkpoint, picture):
    predictor = load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", **MEMORY)
    answer = asyncio.run(look(ViewServer(lambda: predictor, VIEWS), picture, deadline_s=30))
    assert answer.kept is None
    assert predictor.memory.nbytes == 0


def test_a_class_that_the_member_does_not_know_gets_no_mask(picture, tmp_path):
    known = Categories(CATEGORIES.ids[1:], CATEGORIES.names[1:], CATEGORIES.supercategories[1:])
    checkpoint = save_tiny_checkpoint(tmp_path / "two_classes", categories=known)
    server = ViewServer(lambda: load_predictor(checkpoint, CATEGORIES, device="cpu", **MEMORY), VIEWS)
    _, (answer,) = asyncio.run(both_passes(server, picture, MASKS_TO_COME[0].values[0]))
    for masks in answer.masks:
        assert masks.present.tolist() == [False, True, True]


def test_no_boxes_get_no_masks(tiny_checkpoint, picture):
    server = ViewServer(lambda: load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", **MEMORY), VIEWS)
    masks = server.masks(picture, BOXES[:0], LABELS[:0], kept=Kept("unknown", ""), deadline_s=30)
    assert [len(one) for one in asyncio.run(masks).masks] == [0, 0]


def test_a_second_pass_whose_time_is_up_costs_no_forward(tiny_checkpoint, picture):
    server = ViewServer(lambda: load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", **MEMORY), VIEWS)
    with pytest.raises(DeadlineError):
        asyncio.run(server.masks(picture, BOXES, LABELS, kept=Kept("unknown", ""), deadline_s=0))


def test_where_nothing_may_be_kept_the_first_pass_looks_at_nothing_and_any_replica_may_be_asked(
    tiny_checkpoint, picture
):
    load = partial(load_predictor, tiny_checkpoint, CATEGORIES, device="cpu", feature_bytes=0, feature_age_s=60)
    predictor, runs = load(), []
    server = ViewServer(lambda: predictor, VIEWS, name=lambda: "replica 7")
    predictor.detector.backbone.register_forward_hook(lambda *_: runs.append(1))
    answer = asyncio.run(look(server, picture, deadline_s=30, plan=MASKS_TO_COME[0].values[0]))
    assert (answer.kept, runs) == (Kept("a picture", ""), [])


class Between:
    """A view server whose thread can be held before its work, and that work at its end."""

    def __init__(self, checkpoint) -> None:
        self.predictor = load_predictor(checkpoint, CATEGORIES, device="cpu", **MEMORY)
        self.server = ViewServer(lambda: self.predictor, VIEWS)
        self.reached, self.release = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.reached.set()
        self.release.wait(30)

    async def given_up(self, asked, *, at_work: bool) -> None:
        """The call is cancelled before the thread is free for it, or once it has done all its work."""
        if at_work:
            for name in ("remember", "predict_masks"):
                setattr(self.predictor, name, self.held(getattr(self.predictor, name)))
        else:
            self.server._thread.submit(self.hold)
        task = asyncio.create_task(asked)
        await asyncio.sleep(0)
        assert await asyncio.to_thread(self.reached.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self.release.set()
        await asyncio.to_thread(self.server._thread.shutdown)

    def held(self, work):
        def working(*arguments, **keywords):
            result = work(*arguments, **keywords)
            self.hold()
            return result

        return working


@pytest.mark.parametrize("at_work", [pytest.param(False, id="in the queue"), pytest.param(True, id="at work")])
@pytest.mark.parametrize("passes", [1, 2])
def test_of_a_request_that_is_given_up_nothing_is_kept(tiny_checkpoint, picture, passes, at_work):
    between = Between(tiny_checkpoint)
    plan = MASKS_TO_COME[0].values[0]

    async def both():
        asked = look(between.server, picture, deadline_s=30, plan=plan)
        if passes == 2:
            kept = (await asked).kept
            assert between.predictor.memory.nbytes > 0
            asked = between.server.masks(picture, BOXES, LABELS, kept=kept, deadline_s=30)
        await between.given_up(asked, at_work=at_work)

    asyncio.run(both())
    assert between.predictor.memory.nbytes == 0


def test_a_second_pass_that_is_late_or_fails_leaves_no_features(tiny_checkpoint, picture):
    predictor = load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", **MEMORY)
    server = ViewServer(lambda: predictor, VIEWS)

    async def second(boxes, deadline_s, error):
        kept = (await look(server, picture, deadline_s=30, plan=MASKS_TO_COME[0].values[0])).kept
        assert predictor.memory.holds(kept.key)
        with pytest.raises(error):
            await server.masks(picture, boxes, LABELS, kept=kept, deadline_s=deadline_s)
        assert not predictor.memory.holds(kept.key)

    asyncio.run(second(BOXES, 0, DeadlineError))
    asyncio.run(second(np.full_like(BOXES, np.nan), 30, InputError))


def test_a_replica_that_nobody_asks_lets_go_of_old_features(tiny_checkpoint, picture):
    predictor = load_predictor(tiny_checkpoint, CATEGORIES, device="cpu", feature_bytes=2**26, feature_age_s=0.01)
    server = ViewServer(lambda: predictor, VIEWS)

    async def idle():
        await look(server, picture, deadline_s=30, plan=MASKS_TO_COME[0].values[0])
        await asyncio.sleep(0.02)
        await server.check_health()

    asyncio.run(idle())
    assert len(predictor.memory._entries) == 0


class Healthy:
    """A predictor whose device computes."""

    memory = FeatureMemory(0)

    def check_device(self):
        pass


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
