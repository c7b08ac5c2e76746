"""The client's retries, against a transport that plays back outcomes, and their pauses."""

import httpx
import pytest

from tis_ray.errors import ServiceError
from tis_ray.serving import retrying
from tis_ray.serving.client import Client

PROBLEM = {"Content-Type": "application/problem+json"}
OK = httpx.Response(200, json={})
FULL = httpx.Response(503, headers=PROBLEM | {"Retry-After": "3"}, json={"detail": "too many requests"})
RAY_500 = httpx.Response(500, text="Internal Server Error")
OWN_500 = httpx.Response(500, headers=PROBLEM, json={"detail": "the service failed on this request"})
BROKEN = httpx.RemoteProtocolError("Server disconnected without sending a response.")
REFUSED = httpx.ConnectError("Connection refused")


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retrying, "time", clock)
    return clock


def send(*outcomes, retries: int = 4, timeout_s: float = 300.0) -> tuple[httpx.Response | httpx.HTTPError, int]:
    """What the caller gets, and how many times the request was sent."""
    sent = []

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.read() == b"picture"
        sent.append(request)
        outcome = outcomes[len(sent) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        request = http.build_request("POST", "http://service/v1/segment", content=b"picture")
        try:
            return retrying.send(http, request, retries=retries, timeout_s=timeout_s), len(sent)
        except httpx.HTTPError as error:
            return error, len(sent)


@pytest.mark.parametrize(
    ("outcomes", "last", "times"),
    [
        pytest.param([OK], OK, 1, id="answered"),
        pytest.param([FULL, OK], OK, 2, id="no place at first"),
        pytest.param([RAY_500, OK], OK, 2, id="the gateway died"),
        pytest.param([BROKEN, OK], OK, 2, id="the connection broke"),
        pytest.param([httpx.ReadError("reset"), REFUSED, REFUSED, OK], OK, 4, id="the proxy is being replaced"),
        pytest.param([REFUSED], REFUSED, 1, id="nobody was ever there"),
        pytest.param([OWN_500], OWN_500, 1, id="a defect would fail again"),
        pytest.param([httpx.ReadTimeout("late")], None, 1, id="a late answer is not asked for again"),
        pytest.param([httpx.Response(504)], None, 1, id="nor one that missed its deadline"),
        pytest.param([httpx.Response(422)], None, 1, id="a wrong request stays wrong"),
        pytest.param([FULL] * 5, FULL, 5, id="full all the time"),
        pytest.param([BROKEN] * 5, BROKEN, 5, id="broken all the time"),
    ],
)
def test_sends_again_what_may_fare_better(clock, outcomes, last, times):
    answer, sent = send(*outcomes)
    assert sent == times
    assert last is None or answer is last


def test_waits_as_long_as_it_is_asked_to_or_a_pause_that_doubles(clock):
    send(FULL, RAY_500, RAY_500, BROKEN, OK)
    assert clock.pauses == [3, 1, 2, 4]


@pytest.mark.parametrize("header", ["soon", "-1", ""])
def test_an_odd_retry_after_is_no_pause_of_its_own(clock, header):
    send(httpx.Response(503, headers={"Retry-After": header}), OK)
    assert clock.pauses == [0.5]


def test_no_try_begins_after_the_time_is_up(clock):
    answer, sent = send(FULL, FULL, FULL, FULL, timeout_s=7)
    assert (answer, sent) == (FULL, 3)
    assert clock.now == 6


def test_without_retries_the_first_answer_counts(clock):
    assert send(FULL, OK, retries=0) == (FULL, 1)
    assert clock.pauses == []


def test_the_client_says_what_the_last_try_brought(monkeypatch, clock):
    with Client("http://127.0.0.1:1", retries=1) as client:
        responses = [RAY_500, FULL]
        monkeypatch.setattr(
            client,
            "_http",
            httpx.Client(base_url="http://service", transport=httpx.MockTransport(lambda _: responses.pop(0))),
        )
        with pytest.raises(ServiceError, match="503 too many requests") as error:
            client.ensemble()
    assert error.value.status == 503
