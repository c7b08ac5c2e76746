"""Tokens over real HTTP: they change with their file while the service runs, and nothing is read of who has none."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.serving.test_gateway import CATEGORIES, fused, gateway, png
from tests.serving.test_routes import ENSEMBLE, IMAGE
from tis_ray.serving.auth import TokenFile
from tis_ray.serving.routes import build_app

FIRST, SECOND = "first-token-of-this-test", "second-token-of-this-test"


@contextmanager
def served(app) -> Iterator[int]:
    """The port at which `app` answers, by the server that Serve's proxy uses too."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(FIRST + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def port(tokens: Path, found) -> Iterator[int]:
    async def section():
        return ENSEMBLE.fusion, None

    app = build_app(
        gateway(answer=fused(found)),
        ensemble=ENSEMBLE,
        categories=CATEGORIES,
        model_version="0123456789ab",
        fusion_section=section,
        tokens=TokenFile(tokens),
    )
    with served(app) as port:
        yield port


def status(port: int, token: str | None) -> int:
    headers = IMAGE | ({"Authorization": f"Bearer {token}"} if token else {})
    url = f"http://127.0.0.1:{port}/v1/segment"
    return httpx.post(url, content=png(), headers=headers, trust_env=False, timeout=30).status_code


def test_tokens_are_replaced_without_a_restart(port, tokens):
    assert [status(port, token) for token in (None, FIRST, SECOND)] == [401, 200, 401]
    tokens.write_text(f"{FIRST}\n{SECOND}\n")
    assert [status(port, token) for token in (None, FIRST, SECOND)] == [401, 200, 200]
    (tokens.parent / "next").write_text(SECOND)
    (tokens.parent / "next").rename(tokens)  # as a Secret of Kubernetes is replaced
    assert [status(port, token) for token in (None, FIRST, SECOND)] == [401, 401, 200]
    tokens.write_text("# a slip of the hand locks nobody out, and lets nobody in\n")
    assert [status(port, token) for token in (None, FIRST, SECOND)] == [401, 401, 200]


def test_who_has_no_token_is_refused_before_a_body_is_waited_for(port):
    head = "POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 60000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
