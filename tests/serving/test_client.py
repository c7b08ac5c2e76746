"""Both clients against a real HTTP server that plays a service: tries, deadlines, reasons."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import tis_ray
from tests.serving.scripted import BROKEN, FULL, OK, RAY_500, Step, playing, problem
from tis_ray import AsyncClient, Client
from tis_ray.errors import InputError, ServiceError
from tis_ray.serving import retrying

PIXELS = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)


def waiting(method: str, url: str, *arguments: Any, **options: Any) -> Any:
    """What a method of `Client` returns; `client` among the options are the constructor's."""
    with Client(url, **options.pop("client", {})) as client:
        return getattr(client, method)(*arguments, **options)


def awaiting(method: str, url: str, *arguments: Any, **options: Any) -> Any:
    """The same of `AsyncClient`."""

    async def call() -> Any:
        async with AsyncClient(url, **options.pop("client", {})) as client:
            return await getattr(client, method)(*arguments, **options)

    return asyncio.run(call())


Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_PAUSE_S", 0.02)


both = pytest.mark.parametrize("call", [waiting, awaiting])


def test_the_clients_have_the_same_methods():
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncClient) - {"sharing"} == public(Client)


@both
@pytest.mark.parametrize(
    ("steps", "times"),
    [
        pytest.param([OK], 1, id="answered"),
        pytest.param([FULL, OK], 2, id="no place at first"),
        pytest.param([RAY_500, OK], 2, id="the gateway died"),
        pytest.param([BROKEN, OK], 2, id="the connection broke"),
    ],
)
def test_sends_again_until_it_is_answered(call: Call, steps, times):
    with playing(*steps) as service:
        assert call("segment", service.url, b"picture").instances[0].category == "car"
    assert [request.body for request in service.requests] == [b"picture"] * times


@both
@pytest.mark.parametrize("status", [400, 401, 413, 422, 429])
def test_what_the_service_refuses_is_asked_for_once(call: Call, status):
    with playing(problem(status, "because")) as service, pytest.raises(ServiceError, match=f"{status} because") as told:
        call("segment", service.url, b"picture")
    assert told.value.status == status
    assert len(service.requests) == 1


@both
def test_waits_as_long_as_the_service_asks_for(call: Call):
    with playing(problem(503, "full", **{"Retry-After": "1"}), OK) as service:
        call("segment", service.url, b"picture")
    first, second = service.requests
    assert 1 < second.at - first.at < 10


@both
def test_says_what_the_last_try_brought(call: Call):
    with playing(RAY_500, FULL) as service, pytest.raises(ServiceError, match="503 too many requests") as told:
        call("ensemble", service.url, client={"retries": 1})
    assert told.value.status == 503
    assert len(service.requests) == 2


@both
def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_said(call: Call):
    began = time.monotonic()
    with playing(Step(after_s=30)) as service:
        with pytest.raises(ServiceError, match=r"/v1/segment: expected an answer within 0\.5 s; got none"):
            call("segment", service.url, b"picture", client={"timeout_s": 0.5})
        assert time.monotonic() - began < 10
        assert service.hung_up.wait(5)
    assert len(service.requests) == 1


@both
def test_nor_is_one_that_trickles_in(call: Call):
    began = time.monotonic()
    with playing(Step(trickle_s=0.02)) as service, pytest.raises(ServiceError, match=r"within 0\.5 s; got none"):
        call("segment", service.url, b"picture", client={"timeout_s": 0.5})
    assert time.monotonic() - began < 10


@both
def test_a_deadline_travels_and_shrinks_with_every_try(call: Call):
    began = time.monotonic()
    with playing(FULL, FULL, OK) as service:
        call("segment", service.url, b"picture", deadline_s=20, score_threshold=0.25, explain=True, masks=None)
    queries = [request.query for request in service.requests]
    assert queries[0] == {"deadline_s": "20", "score_threshold": "0.25", "explain": "true"}
    granted = [float(query["deadline_s"]) for query in queries]
    assert granted[0] > granted[1] > granted[2] > 20 - (time.monotonic() - began)


@both
def test_without_a_deadline_the_service_sets_its_own(call: Call):
    with playing(OK) as service:
        call("segment", service.url, b"picture", deadline_s=None)
    assert service.requests[0].query == {}


@both
def test_a_deadline_ends_the_waiting(call: Call):
    with (
        playing(Step(after_s=30)) as service,
        pytest.raises(ServiceError, match=r"expected an answer within 1\.2 s; got none"),
    ):
        call("segment", service.url, b"picture", deadline_s=0.2)


@pytest.mark.parametrize("deadline_s", [0, -1, float("inf"), float("nan"), "soon"])
def test_a_deadline_that_is_none_is_refused(deadline_s):
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(InputError, match="deadline_s: expected a number"),
    ):
        client.segment(b"picture", deadline_s=deadline_s)


@both
def test_a_connection_is_used_again(call: Call, monkeypatch):
    opened = []
    monkeypatch.setattr("http.server.ThreadingHTTPServer.get_request", counted(opened))
    with playing(OK) as service:
        if call is waiting:
            with Client(service.url) as client:
                for _ in range(3):
                    client.segment(b"picture")
        else:
            asyncio.run(thrice(service.url))
    assert len(service.requests) == 3
    assert len(opened) == 1


async def thrice(url: str) -> None:
    async with AsyncClient(url) as client:
        for _ in range(3):
            await client.segment(b"picture")


def counted(opened: list[Any]) -> Callable[[Any], Any]:
    def get_request(server: Any) -> Any:
        opened.append(server.socket.accept())
        return opened[-1]

    return get_request


@both
def test_files_bytes_and_pixels_are_sent(call: Call, tmp_path: Path):
    (tmp_path / "a.JPG").write_bytes(b"a file's bytes")
    with playing(OK) as service:
        for image in (tmp_path / "a.JPG", str(tmp_path / "a.JPG"), b"bytes", PIXELS):
            call("segment", service.url, image, client={"token": "secret"})
    bodies = [request.body for request in service.requests]
    assert bodies[:3] == [b"a file's bytes", b"a file's bytes", b"bytes"]
    assert bodies[3].startswith(b"\x89PNG")
    assert [request.headers["Content-Type"] for request in service.requests[1:]] == [
        "image/jpeg",
        "image/*",
        "image/png",
    ]
    assert {request.headers["Authorization"] for request in service.requests} == {"Bearer secret"}


@both
@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param("nowhere.jpg", r"image: expected a readable file; got nowhere\.jpg \(No such file", id="missing"),
        pytest.param("a\0b", "image: expected a readable file", id="a name that is none"),
        pytest.param(PIXELS[..., 0], r"expected a uint8 array \(H, W, 3\); got uint8 \(4, 6\)", id="grey"),
        pytest.param(PIXELS / 255, "got float64", id="floats"),
        pytest.param(PIXELS[:0], r"got uint8 \(0, 6, 3\)", id="empty"),
    ],
)
def test_what_can_be_no_image_is_refused_before_it_is_sent(call: Call, image, message):
    with playing(OK) as service, pytest.raises(InputError, match=message):
        call("segment", service.url, image)
    assert service.requests == []


@both
@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param(
            problem(401, "this service needs a token"),
            r"/v1/ensemble: 401 this service needs a token; token=\.\.\. of a client and TIS_RAY_TOKEN or --token",
            id="wrong token",
        ),
        pytest.param(
            Step(404, b"<html>Not\n here</html>", {"Content-Type": "text/html; charset=utf-8"}),
            r"expected a tis-ray service; /v1/ensemble answered 404 with text/html \(<html>Not here</html>\)",
            id="another server",
        ),
        pytest.param(Step(200, b"hello"), r"expected a tis-ray service; .* answered 200 .*hello", id="no JSON"),
        pytest.param(Step(200, [1]), "expected a tis-ray service; .* answered 200", id="no object"),
        pytest.param(
            Step(301, b"", {"Location": "https://elsewhere/"}),
            "/v1/ensemble is redirected to https://elsewhere/; give that address",
            id="moved",
        ),
        pytest.param(Step(504, b"<html>"), "504 the service is there but its gateway did not answer", id="proxy"),
    ],
)
def test_says_in_plain_words_what_is_wrong(call: Call, step, message):
    with playing(step) as service, pytest.raises(ServiceError, match=message):
        call("ensemble", service.url)


@both
def test_names_an_answer_that_is_of_something_else(call: Call):
    with playing(Step(200, {"hello": 1})) as service:
        with pytest.raises(ServiceError, match="expected a tis-ray service; answer: expected that of /v1/segment"):
            call("segment", service.url, b"picture")
        with pytest.raises(ServiceError, match="expected a tis-ray service; /v1/ensemble names no categories"):
            call("categories", service.url)


@both
def test_a_service_that_was_never_there_is_named_at_once(call: Call):
    began = time.monotonic()
    with pytest.raises(ServiceError, match="expected a tis-ray service; nobody listens there") as told:
        call("segment", "http://127.0.0.1:1", b"picture")
    assert told.value.status is None
    assert time.monotonic() - began < 10
    assert not call("ready", "http://127.0.0.1:1")
    with pytest.raises(ServiceError, match=r"is not ready within 0\.3 s"):
        call("wait_until_ready", "http://127.0.0.1:1", 0.3)


@both
def test_tls_where_there_is_none_is_named(call: Call):
    with playing(OK) as service, pytest.raises(ServiceError, match="is it http:// rather than https://"):
        call("ensemble", service.url.replace("http", "https"))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost:8000", "http://", "ftp://host", "http://host?a=1", ""])
def test_an_address_that_is_none_is_refused(kind, url):
    with pytest.raises(InputError, match="url: expected the address of a service as http://host:port; got"):
        kind(url)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_at_least_one_image_has_to_be_on_its_way(kind):
    with pytest.raises(InputError, match="max_in_flight: expected at least 1; got 0"):
        kind(max_in_flight=0)


def test_httpx_errors_that_are_no_transport_s_are_named_too():
    with (
        playing(Step(200, b"not gzip", {"Content-Encoding": "gzip"})) as service,
        Client(service.url) as client,
        pytest.raises(ServiceError, match="expected a tis-ray service"),
    ):
        client.ensemble()


def test_the_package_offers_both_clients():
    assert tis_ray.Client is Client
    assert tis_ray.AsyncClient is AsyncClient
    assert not issubclass(ServiceError, httpx.HTTPError)
