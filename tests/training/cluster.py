"""A Ray cluster of several nodes on this machine, drivers that train on it, and what may be done to both.

Everything runs in processes of its own: a Ray that the tests' process has started meanwhile is left alone.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

import yaml

from tis_ray.config import Recipe, dump

PATIENCE_S = 900.0  # a machine that does much else; nothing waits as long where it does not
SETTINGS = {"OMP_NUM_THREADS": "1", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
ROOT = Path(__file__).parents[2]


def child(module: str, *arguments: str | Path, log: Path, **options: Any) -> subprocess.Popen[str]:
    """A Python process that runs `tests.training.MODULE` and writes its stderr to `log`."""
    command = [sys.executable, "-m", f"tests.training.{module}", *map(str, arguments)]
    with log.open("w") as stream:
        return subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, **options
        )


class Nodes:
    """A head without CPUs and, at first, two nodes of one CPU each."""

    def __init__(self, folder: Path) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.environment = own | SETTINGS | token | {"RAY_TMPDIR": str(folder)}
        self._log = folder / "nodes.log"

    def __enter__(self) -> Self:
        self._process = child("cluster_nodes", log=self._log, env=self.environment)
        try:
            self.environment["RAY_ADDRESS"] = self._answer("at ")
            for name in ("first", "second"):
                self.add(name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)  # which closes its stdin

    def add(self, name: str) -> None:
        """One more node."""
        self._do(f"add {name}")

    def remove(self, name: str) -> None:
        """End all processes of a node, without a word to the others."""
        self._do(f"remove {name}")

    def _do(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        self._answer(what)

    def _answer(self, begin: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(begin):
                return line.removeprefix(begin).strip()
        raise AssertionError(self._log.read_text())


class Driver:
    """A command that trains `recipes` on a cluster, within `PATIENCE_S`. What it told of the runs is in `told`."""

    def __init__(self, nodes: Nodes, *recipes: Recipe, resume: bool = False) -> None:
        folder = recipes[0].output
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{recipe.name}.yaml" for recipe in recipes]
        for file, recipe in zip(files, recipes, strict=True):
            file.write_text(yaml.safe_dump(dump(recipe)))
        self._log = folder / f"{recipes[0].name}.log"
        options = ["--resume"] if resume else []
        self._process = child("cluster_driver", *files, *options, log=self._log, env=nodes.environment)
        self._limit = Timer(PATIENCE_S, self._process.kill)
        self._limit.start()
        self.told: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def until(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on until something is told for which `reached` is true, and return that."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self._take(line) and reached(self.told[-1]):
                return self.told[-1]
        raise AssertionError(f"the driver ended too early:\n{self._log.read_text()}")

    def end(self) -> tuple[int, str]:
        """Wait for the end; exit code and what a person saw."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(line)
        return self._process.wait(), self._log.read_text()

    def _take(self, line: str) -> bool:
        if not line.startswith("{"):
            print("on stdout:", line)
            return False
        self.told.append(json.loads(line))
        return True

    def kill(self) -> None:
        """SIGKILL, where it has not ended."""
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()


def workers_of(recipe: Recipe) -> list[int]:
    """Process ids of the workers that train `recipe`: Ray Train gives each a folder of the run's name to work in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            works_in = (folder / "cwd").readlink().parts
        except OSError:  # it has just ended, or is another user's
            continue
        if b"RayTrainWorker" in title and recipe.name in works_in:
            found.append(int(folder.name))
    return found


def first_worker_of(recipe: Recipe) -> int:
    """The process id of the worker that writes the run's folder: it holds the lock, beside the driver."""
    inode = (recipe.run_dir / ".lock").stat().st_ino
    holders = set()
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[5].rsplit(":", 1)[1] == str(inode):
            holders.add(int(fields[4]))
    (first,) = holders & set(workers_of(recipe))
    return first


def kill(process: int) -> None:
    """SIGKILL, and wait until it is gone."""
    os.kill(process, signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{process}/cwd").exists() and time.monotonic() < end:
        time.sleep(0.05)
