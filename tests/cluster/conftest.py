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

import pytest

from tis_ray.serving.local import free_port


@dataclass(frozen=True)
class Cluster:
    """Where the dashboard is, and the environment in which its commands run."""

    url: str
    environment: dict[str, str]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """`tis-ray` with these arguments, in a process of its own."""
        # Ctrl-C has to work even where the tests run in the background of a script, whose children ignore it.
        heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = [sys.executable, "-c", f"{heeding}; from tis_ray.cli import main; main()", *map(str, arguments)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """The same, to its end: exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, told = process.communicate(timeout=900)
            return process.returncode, out, told


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray_", dir="/tmp"))  # Ray's sockets need a short path
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "OMP_NUM_THREADS": "1",
    }
    try:
        url, process = _started(folder, environment)
        try:
            yield Cluster(url, environment)
        finally:
            _end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, environment: dict[str, str]) -> tuple[str, subprocess.Popen[bytes]]:
    """A head; Ray gives up after 30 s where the machine has much else to do, so it gets several attempts."""
    told = ""
    for attempt in range(5):
        dashboard = free_port()
        names = ["port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"]
        ports = [f"--{name}={free_port()}" for name in [*names, "ray-client-server-port"]]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *ports]
        command += [f"--dashboard-port={dashboard}", "--num-cpus=4", "--disable-usage-stats"]
        log = folder / f"start{attempt}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*command, f"--temp-dir={folder / str(attempt)}"], env=environment, stdout=stream, stderr=stream
            )
        if _ready(log, process):
            return f"http://127.0.0.1:{dashboard}", process
        _end(process)
        told = log.read_text()
    raise AssertionError(told)


def _ready(log: Path, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < end:
        if "Ray runtime started" in log.read_text():
            return True
        time.sleep(0.5)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait(60)
