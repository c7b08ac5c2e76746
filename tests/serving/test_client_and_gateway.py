"""Both clients against the real gateway over real HTTP, without Ray: its own words, its places, its deadlines."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn

from tests.serving.test_gateway import CATEGORIES, fused, gateway, png
from tests.serving.test_routes import ENSEMBLE
from tis_ray import AsyncClient, Client
from tis_ray.errors import ServiceError
from tis_ray.serving.gateway import Gateway
from tis_ray.serving.routes import build_app


@contextmanager
def served(service: Gateway, *tokens: str) -> Iterator[str]:
    """The address of this gateway."""

    async def section():
        return ENSEMBLE.fusion, None

    app = build_app(
        service,
        ensemble=ENSEMBLE,
        categories=CATEGORIES,
        model_version="0123456789ab",
        fusion_section=section,
        tokens=tokens,
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who comes before the server waits for it
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def slow(found, seconds: float):
    """A fusion that takes that long."""

    async def fusion(frame, *, image_hw, deadline_s, explain):
        await asyncio.sleep(seconds)
        return fused(found)

    return fusion


def test_both_clients_get_what_was_found(found):
    async def ask(url: str):
        async with AsyncClient(url) as client:
            return await client.segment(png()), await client.categories()

    with served(gateway(answer=fused(found))) as url, Client(url) as client:
        result, categories = asyncio.run(ask(url))
        assert client.segment(png()).instances == result.instances
        assert client.categories() == categories == CATEGORIES
    instances = result.to_instances(categories)
    np.testing.assert_array_equal(instances.scores, found.scores)
    np.testing.assert_array_equal(instances.labels, found.labels)
    assert instances.masks.to_rle(60, 80) == found.masks.to_rle(60, 80)


def test_a_token_opens_and_a_wrong_one_says_how_to_give_one(found):
    with served(gateway(answer=fused(found)), "right") as url:
        with Client(url, token="right") as client:
            assert len(client.segment(png()).instances) == 3
        for token in (None, "wrong"):
            with (
                Client(url, token=token) as client,
                pytest.raises(ServiceError, match="401 this service needs a token; "),
            ):
                client.segment(png())


@pytest.mark.parametrize(
    ("asked", "parameters", "message"),
    [
        pytest.param(b"no image", {}, "400 the image cannot be used", id="no image"),
        pytest.param(png(), {"deadline_s": 1e6}, "422 the deadline is too far away", id="deadline"),
        pytest.param(png(), {"score_treshold": 0.5}, "422 query parameter score_treshold", id="misspelt"),
        pytest.param(
            png(), {"masks": "png"}, "422 query parameter masks: expected 'rle', 'polygon' or 'none'", id="masks"
        ),
    ],
)
def test_what_the_gateway_refuses_is_told_in_its_words(found, asked, parameters, message):
    began = time.monotonic()
    with (
        served(gateway(answer=fused(found))) as url,
        Client(url) as client,
        pytest.raises(ServiceError, match=message),
    ):
        client.segment(asked, **parameters)
    assert time.monotonic() - began < 5


def test_whoever_finds_no_place_gets_one_later(found):
    service = gateway(fusion=slow(found, 0.3), max_queued_requests=2)
    with served(service) as url, Client(url, max_in_flight=4) as client:
        outcomes = list(client.segment_many([png()] * 6, deadline_s=60))
    assert [len(outcome.get().instances) for outcome in outcomes] == [3] * 6


def test_the_deadline_that_is_given_is_the_service_s(found):
    with served(gateway(fusion=slow(found, 20))) as url, Client(url) as client:
        began = time.monotonic()
        with pytest.raises(ServiceError, match="504 the deadline passed"):
            client.segment(png(), deadline_s=0.5)
        assert time.monotonic() - began < 15
