"""What the replicas of gateway and fusion take: memory, seconds to start, and which imports cost what.

    python -m tests.benchmarks.service_memory [RESTARTS]

Starts the service with a tiny member, answers a few requests, and kills the replica of each so often: Serve starts
another, which is measured from the moment that Serve asked for it until it serves. The figures are written into
`docs/benchmarks.md`. On a busy machine the wall clock says little: the CPU seconds are what a start takes.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ray

from tests.benchmarks import pages
from tests.serving.bad_days import wait_until
from tests.serving.load.answers import street
from tests.serving.load.footprint import Memory, cpu_s, of_process
from tests.serving.load.offering import Pictures, ask
from tests.serving.replicas import replica_processes
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble
from tis_ray.serving.local import free_port, serve_locally

PAGE, MARKS = pages.DOCS / "benchmarks.md", "service memory"
DEPLOYMENTS = ("Gateway", "Fusion")
RESTARTS, MAX_MB, MAX_S = 3, 350, 5
SHOWN = 12  # packages in the table of imports
# Packages that only ever come by somebody's mistake: the fusion and the gateway compute with numpy and numba.
UNWANTED = ("torch", "torchvision", "timm", "matplotlib", "pycocotools", "tensorboard", "transformers")
_STARTED = re.compile(r"started successfully on node .* after ([\d.]+)s \(PID: (\d+)\).*?took ([\d.]+)s")


class Start(NamedTuple):
    """One replica: until it served, wall and of that its own constructor, CPU of its process; MB then and later."""

    wall_s: float
    own_s: float
    cpu_s: float
    fresh_mb: float


class Import(NamedTuple):
    """One package with all that is in it: seconds in its own modules, by the clock."""

    name: str
    seconds: float
    modules: int


def main() -> None:
    """Measure, print, and put the figures between the marks of the page."""
    text = figures(int(sys.argv[1]) if len(sys.argv) > 1 else RESTARTS)
    print(text)
    pages.write(PAGE, MARKS, text)


def figures(restarts: int) -> str:
    """Both tables."""
    with tempfile.TemporaryDirectory() as scratch:
        served, starts = measure(Path(scratch), restarts)
    return "\n".join([pages.machine("ray", "numba"), "", *_replicas(served, starts), "", *_imports(imports())])


def measure(folder: Path, restarts: int) -> tuple[dict[str, Memory], dict[str, list[Start]]]:
    """What each deployment's replica holds after some requests, and the starts of those that took its place."""
    save_tiny_checkpoint(folder / "one")
    replicas = {name: {"num_cpus": 0.1, "num_gpus": 0} for name in ("default", "gateway", "fusion")}
    members = {"one": {"checkpoint": str(folder / "one"), "scales": [64]}}
    ensemble = Ensemble.model_validate({"members": members, "replicas": replicas, "auth": "none"})
    with serve_locally(ensemble, port=free_port()) as service:
        pictures = Pictures(service.url, [street(0, (2710, 3384))], 60.0)
        fates = ask(pictures, count=10, together=2)
        assert [fate.status for fate in fates] == [200] * len(fates)
        served = {name: of_process(_process(name)) for name in DEPLOYMENTS}
        return served, {name: [_start_anew(name) for _ in range(restarts)] for name in DEPLOYMENTS}


def _start_anew(deployment: str) -> Start:
    """Kill the deployment's replica and watch the next one start."""
    before = _process(deployment)
    os.kill(before, signal.SIGKILL)
    found: list[tuple[float, int, float]] = []

    def there() -> bool:
        found[:] = [one for one in _started(deployment) if one[1] != before and Path(f"/proc/{one[1]}").exists()]
        return bool(found)

    wait_until(there)
    wall_s, pid, own_s = found[-1]
    start = Start(wall_s, own_s, cpu_s(pid), of_process(pid).pss_mb)
    wait_until(lambda: [int(one.name) for one in replica_processes().get(deployment, [])] == [pid])
    return start


def _started(deployment: str) -> Iterator[tuple[float, int, float]]:
    """Seconds, process id and seconds of the constructor of each start that Serve's controller has logged."""
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs" / "serve"
    for file in logs.glob("controller_*.log"):
        for line in file.read_text().splitlines():
            if f"deployment='{deployment}'" in line and (match := _STARTED.search(line)):
                yield float(match[1]), int(match[2]), float(match[3])


def _process(deployment: str) -> int:
    wait_until(lambda: len(replica_processes().get(deployment, [])) == 1)
    return int(replica_processes()[deployment][0].name)


def imports() -> list[Import]:
    """What importing the application costs by package, most costly first. Raises `RuntimeError` for an unwanted one."""
    code = "import sys, tis_ray.serving.app; print([name for name in sys.argv[1:] if name in sys.modules])"
    run = lambda *options: subprocess.run(  # noqa: E731
        [sys.executable, *options, "-c", code, *UNWANTED], capture_output=True, text=True, check=True
    )
    run()  # from here on the files are in memory
    report = run("-X", "importtime")
    if report.stdout.strip() != "[]":
        raise RuntimeError(f"gateway and fusion import what they do not need: {report.stdout.strip()}")
    own: dict[str, list[int]] = {}
    for line in report.stderr.splitlines():
        words = line.removeprefix("import time:").split("|")
        if len(words) == 3 and words[0].strip().isdigit():
            own.setdefault(words[2].strip().partition(".")[0], []).append(int(words[0]))
    found = [Import(name, sum(micros) / 1e6, len(micros)) for name, micros in own.items()]
    return sorted(found, key=lambda one: -one.seconds)


def _replicas(served: dict[str, Memory], starts: dict[str, list[Start]]) -> list[str]:
    lines = [
        f"Medians of {len(starts[DEPLOYMENTS[0]])} starts each; memory also after ten pictures of 3384 x 2710 px.",
        "",
        "| replica | PSS fresh, MB | PSS after requests, MB | of that pages of the object store | must be below "
        "| started in, s | of that the constructor, s | CPU, s | must be below |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, several in starts.items():
        wall_s, own_s, cpu_s, fresh_mb = (statistics.median(column) for column in zip(*several, strict=True))
        lines.append(
            f"| {name} | {fresh_mb:.0f} | {served[name].pss_mb:.0f} | {served[name].store_mb:.0f} | {MAX_MB} "
            f"| {wall_s:.1f} | {own_s:.1f} "
            f"| {cpu_s:.1f} | {MAX_S} |"
        )
    return lines


def _imports(found: list[Import]) -> list[str]:
    lines = ["| package | modules | seconds to import |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.modules} | {one.seconds:.2f} |" for one in found[:SHOWN]]
    rest = found[SHOWN:]
    for name, several in ((f"{len(rest)} others", rest), ("all", found)):
        seconds = sum(one.seconds for one in several)
        lines.append(f"| {name} | {sum(one.modules for one in several)} | {seconds:.2f} |")
    return lines


if __name__ == "__main__":
    main()
