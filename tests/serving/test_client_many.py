"""Many images at once by both clients, against a real HTTP server that plays a service: order, places, leaving."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.serving.scripted import ANSWER, OK, Request, Step, playing, problem
from tis_ray import AsyncClient, Client
from tis_ray.errors import InputError, ServiceError
from tis_ray.serving import retrying
from tis_ray.serving.answers import Result

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_PAUSE_S", 0.02)


def many_waiting(url: str, images: Any, **options: Any) -> list[Any]:
    with Client(url, **options) as client:
        return list(client.segment_many(images))


def many_awaiting(url: str, images: Any, **options: Any) -> list[Any]:
    async def collect() -> list[Any]:
        async with AsyncClient(url, **options) as client:
            return [outcome async for outcome in client.segment_many(images)]

    return asyncio.run(collect())


def by_body(request: Request) -> Step:
    """Fails on every third picture; the rest are answered, some of them late, with their own number as the width."""
    number = int(request.body)
    if number % 3 == 2:
        return problem(400, f"no picture {number}")
    return Step(content=ANSWER | {"image": ANSWER["image"] | {"width": number}}, after_s=0.1 * (number % 2))


@pytest.mark.parametrize("many", [many_waiting, many_awaiting])
def test_every_image_gets_its_own_outcome(many: Call, tmp_path: Path):
    images = [str(number).encode() for number in range(20)]
    with playing(by=by_body) as service:
        outcomes = many(service.url, [*images, tmp_path / "nowhere.jpg"], max_in_flight=3)
    assert sorted(outcome.position for outcome in outcomes) == list(range(21))
    assert service.most == 3
    for outcome in outcomes:
        if outcome.position == 20:
            assert isinstance(outcome.error, InputError)
        elif outcome.position % 3 == 2:
            assert (outcome.error.status, outcome.result) == (400, None)
            with pytest.raises(ServiceError, match=f"400 no picture {outcome.position}"):
                outcome.get()
        else:
            assert outcome.get().width == outcome.position
            assert outcome.image == images[outcome.position]
    assert [outcome.position for outcome in outcomes] != sorted(outcome.position for outcome in outcomes)


@pytest.mark.parametrize("many", [many_waiting, many_awaiting])
def test_no_images_have_no_outcomes(many: Call):
    assert many("http://127.0.0.1:1", []) == []


@pytest.mark.parametrize("many", [many_waiting, many_awaiting])
def test_what_is_wrong_with_the_images_themselves_reaches_the_caller(many: Call):
    def images():
        yield b"0"
        raise ZeroDivisionError("no more")

    with playing(OK) as service, pytest.raises(ZeroDivisionError, match="no more"):
        many(service.url, images())


def test_images_are_taken_as_places_get_free():
    taken = []

    def images():
        for number in range(100):
            taken.append(number)
            yield b"0"

    with playing(OK) as service, Client(service.url, max_in_flight=2) as client:
        outcomes = client.segment_many(images())
        assert taken == []
        for _ in range(3):
            next(outcomes)
        time.sleep(0.3)
        assert len(taken) <= 9  # three had, one waiting to be, two done behind it, two on their way
        outcomes.close()
    assert len(service.requests) <= 9


def arrived(service: Any, count: int) -> None:
    """Return once that many requests have come."""
    end = time.monotonic() + 20
    while len(service.requests) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_leaving_early_breaks_off_what_is_on_its_way():
    def by(request: Request) -> Step:
        return OK if request.body == b"0" else Step(after_s=30)

    began = time.monotonic()
    with playing(by=by) as service, Client(service.url) as client:
        for outcome in client.segment_many([b"0", b"1", b"2"]):
            assert outcome.position == 0
            arrived(service, 3)
            break
        assert service.hung_up.wait(5)
        assert "tis-ray client" not in threads()
        assert client.segment(b"0").width == 6  # the client itself stays open
    assert time.monotonic() - began < 20


def test_an_error_of_the_caller_ends_the_thread():
    def by(request: Request) -> Step:
        return OK if request.body == b"0" else Step(after_s=30)

    def looks() -> None:
        with playing(by=by) as service, Client(service.url) as client:
            for _ in client.segment_many([b"0", b"1"]):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        looks()
    assert "tis-ray client" not in threads()


def test_the_waiting_client_works_inside_a_running_event_loop():
    async def notebook_cell(url: str) -> list[Any]:
        return many_waiting(url, [b"0", b"1"])

    with playing(OK) as service:
        assert len(asyncio.run(notebook_cell(service.url))) == 2


def test_calls_of_many_tasks_wait_for_places():
    async def gather(url: str) -> list[Result]:
        async with AsyncClient(url, max_in_flight=4) as client:
            return await asyncio.gather(*(client.segment(b"picture") for _ in range(40)))

    with playing(Step(after_s=0.02)) as service:
        assert len(asyncio.run(gather(service.url))) == 40
    assert service.most == 4


def test_cancelling_a_call_closes_its_connection_and_no_other():
    async def cancel(service: Any) -> Result:
        async with AsyncClient(service.url) as client:
            call = asyncio.create_task(client.segment(b"slow"))
            await asyncio.to_thread(arrived, service, 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(service.hung_up.wait, 5)
            return await client.segment(b"quick")

    with playing(by=lambda request: Step(after_s=30 if request.body == b"slow" else 0)) as service:
        assert asyncio.run(cancel(service)).width == 6


def test_closing_the_generator_cancels_what_is_on_its_way():
    async def leave(service: Any) -> None:
        async with AsyncClient(service.url) as client:
            async with aclosing(client.segment_many([b"quick", b"slow"])) as outcomes:
                assert (await anext(outcomes)).image == b"quick"
                await asyncio.to_thread(arrived, service, 2)
            assert await asyncio.to_thread(service.hung_up.wait, 5)
            assert len(asyncio.all_tasks()) == 1

    with playing(by=lambda request: Step(after_s=30 if request.body == b"slow" else 0)) as service:
        asyncio.run(leave(service))


def test_a_pause_before_the_next_try_holds_up_nobody_else():
    async def two(url: str) -> list[float]:
        async with AsyncClient(url) as client:
            began = time.monotonic()

            async def ask(image: bytes) -> float:
                await client.segment(image)
                return time.monotonic() - began

            return await asyncio.gather(ask(b"refused"), ask(b"welcome"))

    refused = []

    def by(request: Request) -> Step:
        if request.body == b"refused" and not refused:
            refused.append(request)
            return problem(503, "full", **{"Retry-After": "1"})
        return OK

    with playing(by=by) as service:
        late, early = asyncio.run(two(service.url))
    assert early < 1 < late
