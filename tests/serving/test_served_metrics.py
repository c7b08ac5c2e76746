"""What the running service tells Prometheus, and that no model works for those who have gone."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.replicas import replica_processes
from tests.serving.test_service import picture_of, png

pytestmark = pytest.mark.ray

WITHIN_S = 120.0  # Ray's processes report now and then, through two others
REPORT_S = 1.0  # so often they do, as tests/conftest.py has it
GONE = 8  # as many as the service takes
BEGUN = 2  # of those that are gone, where the news finds them begun
HEARD_S = 0.05  # of processor time: enough to hear of all calls, too little to do most of them


@pytest.fixture(scope="module")
def scraped(service) -> Callable[..., float]:
    """The sum of a metric's samples with given labels, as Ray's agent has it now."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def total(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(httpx.get(url, timeout=30, trust_env=False).text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"ray_tis_ray_{name}" and labels.items() <= sample.labels.items()
        )

    return total


def wait_for(told: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not told():
        assert time.monotonic() < end, f"not within {WITHIN_S} s"
        time.sleep(0.5)


def settled(read: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What is read once all that came before has been told."""
    last, seen = None, read()
    while seen != last:
        time.sleep(4 * REPORT_S)
        last, seen = seen, read()
    return seen


def ask(url: str, content: bytes) -> dict:
    response = httpx.post(
        f"{url}/v1/segment", content=content, headers={"Content-Type": "image/png"}, timeout=60, trust_env=False
    )
    assert response.status_code == 200, response.text
    return response.json()


def half_asked(url: str, content: bytes) -> socket.socket:
    """A connection over which a whole request has been sent, and whose answer nobody reads."""
    address = httpx.URL(url)
    head = f"POST /v1/segment HTTP/1.1\r\nHost: t\r\nContent-Type: image/png\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = socket.create_connection((address.host, address.port), timeout=60)
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.slow
def test_prometheus_hears_of_every_request_view_and_forward(service, scraped):
    names = {
        "requests": ("requests_total", {"status": "200"}),
        "bad": ("requests_total", {"status": "400"}),
        "stages": ("stage_seconds_count", {"stage": "total"}),
        "instances": ("instances_total", {}),
        "views": ("views_total", {"view": "one@96/flip", "status": "ok"}),
        "forwards": ("forward_seconds_count", {"deployment": "two@64", "pass": "first"}),
    }
    before = settled(lambda: {key: scraped(name, **labels) for key, (name, labels) in names.items()})
    answers = [ask(service.url, png(picture_of(seed))) for seed in range(3)]
    bad = httpx.post(
        f"{service.url}/v1/segment", content=b"none", headers={"Content-Type": "image/png"}, trust_env=False
    )
    assert bad.status_code == 400
    wait_for(lambda: scraped("requests_total", status="400") > before["bad"])
    wait_for(lambda: scraped("forward_seconds_count", deployment="two@64") >= before["forwards"] + 3)
    wait_for(lambda: scraped("views_total", view="one@96/flip", status="ok") >= before["views"] + 3)
    after = {key: scraped(name, **labels) for key, (name, labels) in names.items()}
    more = {key: after[key] - before[key] for key in names}
    instances = sum(len(answer["instances"]) for answer in answers)
    assert more == {"requests": 3, "bad": 1, "stages": 3, "instances": instances, "views": 3, "forwards": 3}
    assert scraped("in_flight") == scraped("waiting") == 0


def let_work(folder: Path, cpu_s: float) -> None:
    """Let the stopped process of a /proc folder go on until it has had so much processor time, and stop it again."""

    def used() -> float:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    end = used() + cpu_s
    os.kill(int(folder.name), signal.SIGCONT)
    while used() < end:
        time.sleep(0.005)
    os.kill(int(folder.name), signal.SIGSTOP)


def test_no_model_works_for_those_who_hung_up(service, scraped):
    """A view server is stopped while it has calls before it, and goes on once their clients have gone.

    It has to have heard of the calls before: Ray promises no order of a call and its end, and one that ends before it
    came is told of the end again seconds later.
    """

    def forwards() -> float:
        return scraped("forward_seconds_count", deployment="one@64", **{"pass": "first"})

    content = png(picture_of(1))
    ask(service.url, content)
    gone, (folder,) = scraped("requests_total", status="499"), replica_processes()["one@64"]
    before = settled(lambda: {"forwards": forwards()})["forwards"]  # what is stopped tells nothing
    os.kill(int(folder.name), signal.SIGSTOP)
    try:
        connections = [half_asked(service.url, content) for _ in range(GONE)]
        wait_for(lambda: scraped("in_flight") == GONE)
        let_work(folder, HEARD_S)
        for connection in connections:
            connection.close()
        wait_for(lambda: scraped("in_flight") == 0)
        gone = settled(lambda: {"gone": scraped("requests_total", status="499") - gone})["gone"]
    finally:
        os.kill(int(folder.name), signal.SIGCONT)
    ask(service.url, content)
    wait_for(lambda: forwards() > before)
    time.sleep(5)  # whatever else was done would be told by now
    assert gone >= GONE / 2  # the others were answered before they hung up
    assert forwards() - before <= 1 + (GONE - gone) + BEGUN
