"""When a request is sent again, and how long a client waits before that."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from tis_ray.serving.retrying import Reply, Tries

PROBLEM = {"Content-Type": "application/problem+json"}
FULL = Reply(503, httpx.Headers(PROBLEM), b"")
RAY_500 = Reply(500, httpx.Headers({"Content-Type": "text/plain"}), b"")
BROKEN = httpx.RemoteProtocolError("Server disconnected without sending a response.")
REFUSED = httpx.ConnectError("Connection refused")


def again(*outcomes, retries: int = 4, within_s: float = 300.0, reached: bool = False, **more) -> list[bool]:
    """After which of the outcomes another try follows."""
    tries = Tries(retries=retries, within_s=within_s, reached=reached, **more)
    return [tries.pause_after(outcome) is not None for outcome in outcomes]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(Reply(200, {}, b""), False, id="answered"),
        pytest.param(FULL, True, id="no place"),
        pytest.param(Reply(503, {}, b""), True, id="no gateway"),
        pytest.param(RAY_500, True, id="the gateway died"),
        pytest.param(Reply(502, {}, b""), True, id="a proxy lost the gateway"),
        pytest.param(Reply(500, httpx.Headers(PROBLEM), b""), False, id="a defect would fail again"),
        pytest.param(Reply(504, httpx.Headers(PROBLEM), b""), False, id="the deadline passed"),
        pytest.param(BROKEN, True, id="the connection broke"),
        pytest.param(httpx.ReadError("reset"), True, id="reset"),
        pytest.param(REFUSED, False, id="nobody was ever there"),
        pytest.param(httpx.ReadTimeout("late"), False, id="a late answer is not asked for again"),
        pytest.param(httpx.DecodingError("not gzip"), False, id="no answer that can be read"),
        *(pytest.param(Reply(status, {}, b""), False, id=str(status)) for status in (400, 401, 404, 408, 422, 429)),
    ],
)
def test_sends_again_what_may_fare_better(outcome, expected):
    assert again(outcome) == [expected]


def test_a_service_that_was_there_may_be_back_soon():
    assert again(BROKEN, REFUSED, REFUSED) == [True, True, True]
    assert again(FULL, REFUSED) == [True, True]
    assert again(REFUSED, reached=True) == [True]


def test_tries_are_counted():
    assert again(*[FULL] * 5) == [True] * 4 + [False]
    assert again(FULL, retries=0) == [False]
    assert again(*[BROKEN] * 1200, retries=1200, within_s=1e6)[-1]


def pauses(*outcomes, **options) -> list[float]:
    tries = Tries(retries=20, within_s=1e6, **options)
    return [tries.pause_after(outcome) for outcome in outcomes]


def test_pauses_double_up_to_ten_seconds_and_differ_between_clients():
    rows = [pauses(*[RAY_500] * 8) for _ in range(200)]
    for column, longest in zip(zip(*rows, strict=True), [0.5, 1, 2, 4, 8, 10, 10, 10], strict=True):
        assert longest / 2 <= min(column) < 0.6 * longest
        assert 0.9 * longest < max(column) <= longest


def retry_after(text: str) -> Reply:
    return Reply(503, httpx.Headers({"Retry-After": text}), b"")


def test_a_service_says_how_long_to_stay_away():
    (pause,) = pauses(retry_after("3"))
    assert 3.25 <= pause <= 3.5
    (pause,) = pauses(retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)))
    assert 58 < pause <= 60.5


@pytest.mark.parametrize("header", ["soon", "-1", "", "1.5e", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_an_odd_or_past_retry_after_asks_for_nothing(header):
    (pause,) = pauses(retry_after(header))
    assert 0.25 <= pause <= 0.5


def test_no_try_begins_after_the_time_is_up():
    assert again(retry_after("3"), within_s=3) == [False]
    assert again(retry_after("9" * 400)) == [False]
    assert again(FULL, within_s=300, deadline_s=0.2) == [False]


def test_a_later_try_tells_what_is_left_of_the_deadline():
    tries = Tries(retries=1, within_s=31, deadline_s=30)
    assert tries.deadline_s == 30
    tries.pause_after(FULL)
    time.sleep(0.05)
    assert 29 < tries.deadline_s <= 29.95
    assert 30 < tries.left_s < 31
    assert Tries(retries=1, within_s=31).deadline_s is None
