"""A real HTTP server that plays a service by a script: refuses, breaks off, hangs, and notes what came."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from tests.http_server import served

RLE = {"size": [4, 6], "counts": "PPYo0"}
ROW = {"category_id": 3, "category": "car", "score": 0.5, "bbox": [1.0, 2.0, 3.0, 2.0], "area": 6.0}
ANSWER: dict[str, Any] = {
    "image": {"width": 6, "height": 4, "sha256": "00"},
    "instances": [ROW | {"segmentation": None}],
    "views": [],
    "degraded": False,
    "timings": {"total_s": 0.5},
    "model_version": "0123456789ab",
}
PROBLEM = {"Content-Type": "application/problem+json"}


@dataclass(frozen=True)
class Step:
    """One answer. `after_s` seconds pass before it; `breaks` hangs up in its place; `trickle_s` before each byte."""

    status: int = 200
    content: Any = field(default_factory=lambda: ANSWER)
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    breaks: bool = False
    trickle_s: float = 0.0

    @property
    def body(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else orjson.dumps(self.content)


def problem(status: int, detail: str, **headers: str) -> Step:
    """What a tis-ray service says of a request that it refuses."""
    return Step(status, {"status": status, "detail": detail}, PROBLEM | headers)


OK, BROKEN = Step(), Step(breaks=True)
FULL = problem(503, "too many requests are waiting already")
RAY_500 = Step(500, b"Internal Server Error", {"Content-Type": "text/plain; charset=utf-8"})


@dataclass
class Request:
    """What came, and when by the clock of `time.monotonic`."""

    at: float
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Script:
    """The server: `requests` in the order in which they came, and the most that were there at once."""

    answer: Callable[[Request], Step]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    present: int = 0
    most: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def playing(*steps: Step, by: Callable[[Request], Step] | None = None) -> Iterator[Script]:
    """A server that answers with `steps` in turn, the last of them for ever, or with what `by` makes of a request."""
    script = Script(by or (lambda _: steps[min(len(script.requests), len(steps)) - 1]))

    class Handler(_Handler):
        played = script

    with served(Handler) as script.url:
        yield script


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    played: Script

    def do_GET(self) -> None:
        self._play(b"")

    def do_POST(self) -> None:
        self._play(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _play(self, body: bytes) -> None:
        script, address = self.played, urlsplit(self.path)
        request = Request(time.monotonic(), address.path, dict(parse_qsl(address.query)), dict(self.headers), body)
        with script.lock:
            script.requests.append(request)
            script.present += 1
            script.most = max(script.most, script.present)
            step = script.answer(request)
        try:
            if not self._left(step.after_s) and not step.breaks:
                self._send(step)
            else:
                self.close_connection = True
        finally:
            with script.lock:
                script.present -= 1

    def _left(self, within_s: float) -> bool:
        """Whether the client hung up within that time."""
        if within_s == 0:
            return False
        self.connection.settimeout(within_s)
        try:
            gone = self.connection.recv(1) == b""
        except TimeoutError:
            return False
        finally:
            with contextlib.suppress(OSError):
                self.connection.settimeout(None)
        if gone:
            self.played.hung_up.set()
        return gone

    def _send(self, step: Step) -> None:
        self.send_response(step.status)
        for name, value in {"Content-Type": "application/json", **step.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(step.body)))
        self.end_headers()
        if not step.trickle_s:
            self.wfile.write(step.body)
            return
        for byte in step.body:
            time.sleep(step.trickle_s)
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                self.close_connection = True
                return

    def log_message(self, *_: object) -> None:
        pass
