"""A picture that nobody waits for any more is let go of at once: it is not for the garbage collector to find in a cycle
of failures, tracebacks and tasks, which takes it hundreds of requests."""

import asyncio
import gc
import io
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ray.serve.exceptions import BackPressureError

from tis_ray.config import Ensemble, Limits
from tis_ray.instances import Categories
from tis_ray.serving.calls import ServedViews, fusion_call
from tis_ray.serving.fusion import Fusion
from tis_ray.serving.gateway import Gateway
from tis_ray.serving.messages import Deadline
from tis_ray.serving.schemas import SegmentQuery

HW = (60, 80)
ENSEMBLE = Ensemble.model_validate({"members": {"a": {"checkpoint": "a", "scales": [64, 96]}}})


class Picture:
    """What stands for a reference into the object store."""


class Never:
    """A Serve handle whose responses never come, or, where it is `full`, are refused."""

    def __init__(self, *, full: bool = False) -> None:
        self.segment = self
        self.full = full

    def remote(self, frame: Any, **_: Any) -> "Never":
        return self

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0.02).__await__()
        if self.full:
            raise BackPressureError(1, 1)
        yield from asyncio.sleep(60).__await__()

    def cancel(self) -> None:
        pass


def by_gateway(deadline_s: float) -> tuple[Coroutine[Any, Any, Any], list[weakref.ref[Picture]]]:
    """A request to a gateway whose fusion never answers."""
    seen: list[weakref.ref[Picture]] = []

    def put(_: Any) -> Picture:
        picture = Picture()
        seen.append(weakref.ref(picture))
        return picture

    gateway = Gateway(
        fusion_call(Never()), put=put, categories=Categories((1,), ("car",)), limits=Limits(), model_version="0" * 12
    )
    stream = io.BytesIO()
    Image.fromarray(np.zeros((*HW, 3), dtype=np.uint8)).save(stream, format="PNG")
    query = SegmentQuery.model_validate({})
    return gateway.segment(stream.getvalue(), query, Deadline(deadline_s)), seen


def by_fusion(deadline_s: float, *, full: bool = False) -> tuple[Coroutine[Any, Any, Any], list[weakref.ref[Picture]]]:
    """A request to a fusion whose view servers never answer, or are full."""
    picture = Picture()
    calls = {name: ServedViews(Never(full=full)) for name in ENSEMBLE.deployments}
    fusion = Fusion(ENSEMBLE, calls, Categories((1,), ("car",)))
    return fusion.segment(picture, image_hw=HW, deadline_s=deadline_s, explain="none"), [weakref.ref(picture)]


async def ended(begin: Callable[[], tuple[Any, list[weakref.ref[Picture]]]], hang_up: bool) -> list[Picture | None]:
    """What is left of the pictures once the request is through."""
    work, seen = begin()
    task = asyncio.ensure_future(work)
    del work
    await asyncio.sleep(0.1)
    assert seen
    if hang_up:
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == hang_up
    if not hang_up:
        task.exception()
    del task
    await asyncio.sleep(0.05)  # what is called back
    return [one() for one in seen]


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("begin", [by_gateway, by_fusion])
def test_by_those_who_hung_up(begin: Callable[..., Any]) -> None:
    assert asyncio.run(ended(lambda: begin(30), hang_up=True)) == [None]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("begin", [by_gateway, by_fusion])
def test_by_those_whose_time_is_up(begin: Callable[..., Any]) -> None:
    assert asyncio.run(ended(lambda: begin(0.2), hang_up=False)) == [None]


@pytest.mark.usefixtures("no_collector")
def test_by_those_who_found_a_queue_full() -> None:
    assert asyncio.run(ended(lambda: by_fusion(30, full=True), hang_up=False)) == [None]
