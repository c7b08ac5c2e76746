"""A view server without Ray: one forward at a time, over a real tiny detector and over predictors of a test's own."""

import asyncio

import numpy as np

from tests.serving.predictors import VIEWS, Slow, look
from tests.tiny import CATEGORIES
from tis_ray.inference.predictor import Predictor
from tis_ray.serving.loading import load_predictor
from tis_ray.serving.messages import DeadlineError
from tis_ray.serving.view_server import ViewServer
from tis_ray.views import View

MEMORY = {"feature_bytes": 2**26, "feature_age_s": 60}


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
