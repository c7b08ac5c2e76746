"""A Ray cluster of one machine with a dashboard and tokens, as `ray start` makes it, and commands that use it."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tis_ray.serving.local import free_port


@dataclass(frozen=True)
class Cluster:
    """Where the dashboard is, and the environment in which its commands run."""

    url: str
    environment: dict[str, str]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """`tis-ray` with these arguments, in a process of its own."""
        command = [sys.executable, "-c", "from tis_ray.cli import main; main()", *map(str, arguments)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """The same, to its end: exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, told = process.communicate(timeout=300)
            return process.returncode, out, told


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="ray_", dir="/tmp")  # Ray's sockets need a short path
    dashboard = free_port()
    names = ["port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"]
    ports = [f"--{name}={free_port()}" for name in [*names, "ray-client-server-port"]]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *ports]
    command += [f"--dashboard-port={dashboard}", "--num-cpus=4", f"--temp-dir={folder}", "--disable-usage-stats"]
    with Path(folder, "start.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{dashboard}"
    try:
        _wait(url, process, Path(folder, "start.log"))
        yield Cluster(url, environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/api/version", timeout=5, trust_env=False).status_code in (200, 401):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text())
