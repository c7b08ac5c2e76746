"""What the service adds to a bare Serve graph of its shape: everything but decoding and models.

    python -m tests.benchmarks.service_overhead [REQUESTS]

A JPEG of 3 MB (3384 x 2710 px) is sent to the real application, with ten view servers of two views each, and to a graph
that does no work, one after the other in the same Ray; the medians and where they go are written into
`docs/benchmarks.md`. A second picture has a hundred objects in each view, which are sent, fused and written as RLEs.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import ray
from ray import serve

from tests.benchmarks import bare_graph, idle_service, pages
from tis_ray.serving.local import free_port, serve_locally, start_ray

PAGE, MARKS = pages.DOCS / "benchmarks.md", "service overhead"
REQUESTS, WARM_UP, MUST_BE = 200, 20, 1.5
STAGES = ("http", "store", "hop", "views", "fusion", "writing")

Laps = dict[str, float]  # seconds by stage, `total` among them


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


def measure(url: str, requests: int) -> dict[str, list[Laps]]:
    """Each way's requests, one at a time and in turn, so that a busy moment of the machine meets all."""
    plain, busy = idle_service.jpeg(objects=False), idle_service.jpeg(objects=True)
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        ways: dict[str, Callable[[], Laps]] = {
            "bare": lambda: _ask(client, bare_graph.ROUTE, plain, bare_laps),
            "service": lambda: _ask(client, "/v1/segment", plain, service_laps),
            "service, 100 objects a view": lambda: _ask(client, "/v1/segment", busy, service_laps),
        }
        found: dict[str, list[Laps]] = {name: [] for name in ways}
        for number in range(WARM_UP + requests):
            for name, way in ways.items():
                laps = way()
                if number >= WARM_UP:
                    found[name].append(laps)
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


def _table(found: dict[str, list[Laps]]) -> str:
    columns = ["HTTP, ms", "into the store, ms", "to the fusion, ms", "to ten servers, ms", "fusing, ms", "RLE, ms"]
    lines = [
        pages.machine("ray", "fastapi"),
        "",
        f"Medians of {len(found['bare'])} requests of each kind, one at a time and in turn.",
        "",
        f"| | {' | '.join(columns)} | all, ms | slowest tenth from, ms | ratio | must be |",
        "|---" * (len(columns) + 5) + "|",
    ]
    bare_s = statistics.median(one["total"] for one in found["bare"])
    for name, laps in found.items():
        cells = [_ms([one.get(stage, 0.0) for one in laps]) for stage in STAGES]
        totals = [one["total"] for one in laps]
        ratio = statistics.median(totals) / bare_s
        tenth = f"{statistics.quantiles(totals, n=10)[-1] * 1e3:.1f}"
        judged = ["-", "-"] if name == "bare" else [f"**{ratio:.2f}x**", f"{MUST_BE:g}x"]
        lines.append("| " + " | ".join([name, *cells, _ms(totals), tenth, *judged]) + " |")
    return "\n".join(lines)


def _ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f}"


if __name__ == "__main__":
    main()
