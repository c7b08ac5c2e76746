"""When a view server says that it is healthy, and when that Serve should replace it."""

import asyncio
import threading
import time

import numpy as np
import pytest

from tests.serving.predictors import VIEWS, Healthy, Slow, look
from tis_ray.instances import Instances
from tis_ray.serving.messages import DeadlineError
from tis_ray.serving.view_server import ViewServer


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
