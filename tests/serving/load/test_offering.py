"""The load generators against a plain server: what makes a load open or closed, and what they say of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving.load.offering import Fate, Pictures, ask, in_words, offer, percentile, with_status


class Slow(BaseHTTPRequestHandler):
    """Answers after a fifth of a second with what it was sent, or with 503 where that is `no`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.busy:
            self.server.together += 1
            self.server.most = max(self.server.most, self.server.together)
        time.sleep(0.2)
        with self.server.busy:
            self.server.together -= 1
        self.send_response(503 if content == b"no" else 200)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def slow_server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.busy, server.together, server.most = threading.Lock(), 0, 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with slow_server() as running:
        yield running


def pictures(server: ThreadingHTTPServer) -> Pictures:
    return Pictures(f"http://127.0.0.1:{server.server_port}", [b"one", b"no"], 5.0)


def test_an_offered_load_does_not_wait_for_answers(server):
    fates = offer(pictures(server), rate_per_s=50, seconds=0.4)
    assert [fate.number for fate in fates] == list(range(20))
    assert server.most >= 5  # ten at once, as the server takes a fifth of a second and fifty come in one
    assert [fate.status for fate in fates] == [200, 503] * 10
    assert [fate.content for fate in fates] == [b"one", b"no"] * 10


def test_a_closed_load_is_never_more_than_so_many_at_once(server):
    fates = ask(pictures(server), count=6, together=3, first=7)
    assert [fate.number for fate in fates] == list(range(7, 13))
    assert server.most == 3
    assert fates[0].content == b"no"
    assert all(fate.seconds >= 0.2 for fate in fates)


def test_a_server_that_is_not_there_is_a_fate_too():
    (fate,) = ask(Pictures("http://127.0.0.1:9", [b"one"], 1.0), count=1, together=1)
    assert fate.status == "ConnectError"


def test_fates_are_told_by_status():
    fates = [Fate(number, 200, 0.1 * number, 0.0) for number in range(1, 5)] + [Fate(5, 503, 0.01, 0.0)]
    assert len(with_status(fates, 200)) == 4
    assert in_words(fates) == (
        "4 x 200 (median 0.25 s, 99% within 0.40 s, slowest 0.40 s), "
        "1 x 503 (median 0.01 s, 99% within 0.01 s, slowest 0.01 s)"
    )


@pytest.mark.parametrize(
    ("seconds", "percent", "expected"),
    [
        pytest.param([], 99, 0.0, id="none"),
        pytest.param([2.0], 50, 2.0, id="one"),
        pytest.param([1.0, 2.0, 3.0], 50, 2.0, id="the middle"),
        pytest.param([float(value) for value in range(101)], 99, 99.0, id="a hundred and one"),
    ],
)
def test_percentiles(seconds, percent, expected):
    assert percentile(seconds, percent) == pytest.approx(expected)
