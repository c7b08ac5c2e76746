"""Reading files through the head's dashboard. A small HTTP server stands in for it: a real one sends no half files."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
import ray

from tests.http_server import served
from tis_ray.cluster.head import Head
from tis_ray.errors import ServiceError

PIECE = bytes(range(256)) * 4096  # 1 MiB


class Dashboard(BaseHTTPRequestHandler):
    """Sends half of the file `half`, and the rest once `wanted` is set; has no other file."""

    wanted: threading.Event
    was_wanted: bool | None = None

    def do_GET(self) -> None:
        if self.path.startswith("/api/version"):
            self._send(200, json.dumps({"version": "4", "ray_version": ray.__version__, "ray_commit": ""}).encode())
        elif "filename=half" in self.path:
            self._send(200, PIECE, more=len(PIECE))
            type(self).was_wanted = self.wanted.wait(5)
            self.wfile.write(PIECE)
        else:
            self._send(500, b"no such\nfile")

    def _send(self, status: int, content: bytes, *, more: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) + more))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Dashboard, "wanted", threading.Event(), raising=False)
    with served(Dashboard) as address:
        yield Head(address)


def test_a_file_comes_in_pieces_while_it_is_sent(head: Head) -> None:
    with head.file("node", "half") as pieces:
        first = next(pieces)
        Dashboard.wanted.set()
        rest = b"".join(pieces)
    assert Dashboard.was_wanted
    assert first + rest == PIECE * 2


def test_a_file_that_is_not_there_is_named(head: Head) -> None:
    with pytest.raises(ServiceError, match=r"expected the file lost; got no such file"), head.file("node", "lost"):
        pass
