"""What the service adds to a bare Serve graph of its shape: everything but decoding and models.

    python -m tests.benchmarks.service_overhead [REQUESTS]

A JPEG of 3 MB (3384 x 2710 px) is sent to the real application, with ten view servers of two views each, and to a graph
that does no work, one after the other in the same Ray; the medians and where they go are written into
`docs/benchmarks.md`. A second picture has a hundred objects in each view, which are sent, fused and written as RLEs; it
is held against the graph whose servers answer with as many bytes.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import ray
from ray import serve

from tests.benchmarks import bare_graph, idle_service, pages
from tests.serving.load.footprint import cpu_seconds
from tis_ray.serving.local import free_port, serve_locally, start_ray

PAGE, MARKS = pages.DOCS / "benchmarks.md", "service overhead"
REQUESTS, WARM_UP, MUST_BE = 200, 20, 1.5
STAGES = ("http", "store", "hop", "views", "fusion", "writing")

TURNS = 10

BARE, BUSY_BARE, BUSY = "bare", "bare, answers of that size", "service, 100 objects a view"
BESIDE = {"service": BARE, BUSY: BUSY_BARE}  # what each way is held against

Laps = dict[str, float]  # seconds by stage, `total` among them
CPU_PARTS = ("proxy", "door", "middle", "servers")
_PARTS = {"proxy": "proxy", "Gateway": "door", "Door": "door", "Fusion": "middle", "Middle": "middle"}


class Measured(NamedTuple):
    """The requests of one way: each one's seconds by stage, and the CPU seconds of all by part of the graph."""

    laps: list[Laps]
    cpu_s: Counter[str]


def main() -> None:
    """Measure, print, and put the figures between the marks of the page."""
    text = figures(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
    print(text)
    pages.write(PAGE, MARKS, text)


def figures(requests: int) -> str:
    """The table for so many requests of each kind."""
    try:
        with tempfile.TemporaryDirectory() as scratch, idle_service.stood_in():
            ensemble = idle_service.ensemble(Path(scratch))
            start_ray(ensemble, extra_cpus=2)
            with serve_locally(ensemble, port=free_port()) as service:
                serve.run_many(
                    [serve.RunTarget(bare_graph.build(), name=bare_graph.NAME, route_prefix=bare_graph.ROUTE)]
                )
                return _table(measure(service.url, requests))
    finally:
        ray.shutdown()


def measure(url: str, requests: int) -> dict[str, Measured]:
    """Each way's requests, one at a time and in turn, so that a busy moment of the machine meets all.

    The kernel counts a process's computing in hundredths of a second, so each turn is some requests long.
    """
    plain, busy = idle_service.jpeg(objects=False), idle_service.jpeg(objects=True)
    answer_bytes = idle_service.answer_bytes()
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        ways: dict[str, Callable[[], Laps]] = {
            BARE: lambda: _ask(client, bare_graph.ROUTE, plain, bare_laps),
            "service": lambda: _ask(client, "/v1/segment", plain, service_laps),
            BUSY_BARE: lambda: _ask(client, f"{bare_graph.ROUTE}?answer_bytes={answer_bytes}", busy, bare_laps),
            BUSY: lambda: _ask(client, "/v1/segment", busy, service_laps),
        }
        for way in ways.values():
            _several(way, WARM_UP)
        found = {name: Measured([], Counter()) for name in ways}
        for turn in range(TURNS):
            for name, way in ways.items():
                before = _computed()
                found[name].laps.extend(_several(way, requests * (turn + 1) // TURNS - requests * turn // TURNS))
                found[name].cpu_s.update(_computed())
                found[name].cpu_s.subtract(before)
        return found


def _several(way: Callable[[], Laps], count: int) -> list[Laps]:
    return [way() for _ in range(count)]


def _computed() -> Counter[str]:
    """CPU seconds so far of the processes on a request's way, of both graphs, by their part."""
    found: Counter[str] = Counter()
    for name, seconds in cpu_seconds().items():
        found[_PARTS.get(name, "servers" if name.startswith(("member@", "server")) else "rest")] += seconds
    return found


def _ask(client: httpx.Client, path: str, content: bytes, laps: Callable[[float, Any], Laps]) -> Laps:
    start = time.perf_counter()
    response = client.post(path, content=content, headers={"Content-Type": "image/jpeg"})
    total_s = time.perf_counter() - start
    response.raise_for_status()
    return laps(total_s, response.json())


def bare_laps(total_s: float, answer: Laps) -> Laps:
    """Seconds by stage of a request to the bare graph, by its own account."""
    return {
        "http": total_s - answer["total_s"],
        "store": answer["decode_s"],
        "hop": answer["total_s"] - answer["decode_s"] - answer["views_s"],
        "views": answer["views_s"],
        "total": total_s,
    }


def service_laps(total_s: float, answer: dict[str, Any]) -> Laps:
    """Seconds by stage of a request to the service, by the answer's timings; views may not have failed."""
    assert not answer["degraded"]
    timings = answer["timings"]
    own = {name: timings[f"{name}_s"] for name in ("decode", "views", "masks", "fusion", "encode", "total")}
    return {
        "http": total_s - own["total"],
        "store": own["decode"],
        "hop": own["total"] - sum(own[name] for name in ("decode", "views", "masks", "fusion", "encode")),
        "views": own["views"] + own["masks"],
        "fusion": own["fusion"],
        "writing": own["encode"],
        "total": total_s,
    }


def _table(found: dict[str, Measured]) -> str:
    lines = [
        pages.machine("ray", "fastapi"),
        "",
        f"{len(found['bare'].laps)} requests of each kind, one at a time and in turn. Medians by the clock:",
        "",
        "| | HTTP, ms | into the store, ms | to the fusion, ms | to the servers, ms | fusing, ms | RLE, ms "
        "| all, ms | 90% within, ms | ratio | must be |",
        "|---" * 11 + "|",
    ]
    for name, (laps, _) in found.items():
        cells = [_ms(_middle_s(found[name], stage)) for stage in (*STAGES, "total")]
        tenth = _ms(statistics.quantiles([one["total"] for one in laps], n=10)[-1])
        lines.append(_row(name, [*cells, tenth], lambda way: _middle_s(found[way], "total")))
    lines += [
        "",
        "What they compute, on all cores, which other programs on the machine change less:",
        "",
        "| | Serve's proxy, ms | gateway, ms | fusion, ms | ten servers, ms | all, ms | ratio | must be |",
        "|---" * 8 + "|",
    ]
    for name, one in found.items():
        cells = [_ms(_computed_s(one, part)) for part in CPU_PARTS]
        cells.append(_ms(_computed_s(one, *CPU_PARTS)))
        lines.append(_row(name, cells, lambda way: _computed_s(found[way], *CPU_PARTS)))
    return "\n".join(lines)


def _row(name: str, cells: list[str], seconds: Callable[[str], float]) -> str:
    judged = ["-", "-"]
    if name in BESIDE:
        judged = [f"**{seconds(name) / seconds(BESIDE[name]):.2f}x**", f"{MUST_BE:g}x"]
    return "| " + " | ".join([name, *cells, *judged]) + " |"


def _middle_s(measured: Measured, stage: str) -> float:
    return statistics.median(one.get(stage, 0.0) for one in measured.laps)


def _computed_s(measured: Measured, *parts: str) -> float:
    return sum(measured.cpu_s[part] for part in parts) / len(measured.laps)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


if __name__ == "__main__":
    main()
