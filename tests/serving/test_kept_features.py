"""The second pass on a view server without Ray: masks from kept features, and features that nobody will ask for."""

import asyncio
import threading
from functools import partial

import numpy as np
import pytest

from tests.tiny import CATEGORIES, save_tiny_checkpoint
from tis_ray.errors import InputError
from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories
from tis_ray.serving.loading import load_predictor
from tis_ray.serving.messages import DeadlineError, Kept
from tis_ray.serving.view_server import ViewServer
from tis_ray.views import View

VIEWS = (View("one", 64), View("one", 64, True))
MEMORY = {"feature_bytes": 2**26, "feature_age_s": 60}
OWN = Plan(boxes=True, own_masks=True, masks=False)


def look(server: ViewServer, frame: np.ndarray, *, deadline_s: float, plan: Plan = OWN):
    """The server's answer to the first pass."""
    return server.segment(frame, plan=plan, key="a picture", deadline_s=deadline_s)


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
            for name in ("remember_together", "predict_masks"):
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
