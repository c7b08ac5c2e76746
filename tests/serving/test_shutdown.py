"""`tis-ray serve` ends on SIGTERM: what is in flight is answered, what is new is refused, nothing is left running."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.processes import MARK, left_running
from tests.running_service import write_ensemble
from tests.serving.malformed import encoded
from tis_ray.serving.local import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def wait_until_ready(url: str, process: subprocess.Popen, *, within_s: float = 240) -> None:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError("the service is not ready in time")


def test_a_request_in_flight_is_answered_and_a_new_one_refused_on_sigterm(tmp_path):
    mark, port = tmp_path.name, free_port()
    command = [str(Path(sys.executable).with_name("tis-ray")), "serve", str(write_ensemble(tmp_path))]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--set", "limits.body_stall_s=30"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {MARK: mark},
    )
    url = f"http://127.0.0.1:{port}"
    content = encoded("JPEG")
    try:
        wait_until_ready(url, process)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/segment?deadline_s=60 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
                b"Content-Length: %d\r\n\r\n" % len(content) + content[:500]
            )
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            refused = first_refusal(url, content)
            assert refused.headers["content-type"] == "application/problem+json"
            assert int(refused.headers["Retry-After"]) >= 1
            assert "shutting down" in refused.json()["detail"]
            assert httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 503
            connection.sendall(content[500:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert process.wait(120) == 0, process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()
    assert left_running(mark) == set()


def first_refusal(url: str, content: bytes, *, within_s: float = 60) -> httpx.Response:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        headers = {"Content-Type": "image/jpeg"}
        response = httpx.post(f"{url}/v1/segment", content=content, headers=headers, timeout=60, trust_env=False)
        if response.status_code != 200:
            assert response.status_code == 503, response.text
            return response
        time.sleep(0.1)
    raise AssertionError("the service goes on as if nothing had been said")
