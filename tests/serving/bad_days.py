"""Means of the bad days: a service with two replicas of everything, many requests, and kills by process id."""

import hashlib
import io
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.serving.replicas import replica_processes
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble

VIEW_SERVERS = ("one@128", "two@128")
TRANSPORT_S = 1.0  # through Serve's proxy and back, on a machine that is busy starting replicas
IMAGE = {"Content-Type": "image/png"}


def save_members(folder: Path) -> Path:
    """Two tiny members' checkpoints in `folder`."""
    for seed, name in enumerate(["one", "two"]):
        save_tiny_checkpoint(folder / name, seed=seed)
    return folder


def doubled(folder: Path) -> Ensemble:
    """The members in `folder` at one scale each, half of whose views are enough, with two replicas of everything."""
    members = {name: {"checkpoint": str(folder / name), "scales": [128]} for name in ("one", "two")}
    each = {"num_replicas": 2, "num_cpus": 0.1, "num_gpus": 0}
    content = {
        "members": members,
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.6}}], "top_k": 12},
        "quorum": {"views": 0.5},
        "limits": {"deadline_s": 20, "max_deadline_s": 60, "max_queued_requests": 32},
        "replicas": dict.fromkeys(("default", "gateway", "fusion"), each),
        "auth": "none",
    }
    return Ensemble.model_validate(content)


def deploy(ensemble: Ensemble, url: str) -> None:
    """Put `ensemble` in the place of what runs, all replicas anew, and wait until it answers."""
    from ray import serve

    from tis_ray.serving.app import build
    from tis_ray.serving.running import APPLICATION

    serve.run_many([serve.RunTarget(build(ensemble), name=APPLICATION, route_prefix="/")])
    wait_until(lambda: httpx.get(f"{url}/readyz", timeout=60, trust_env=False).status_code == 200)


def wait_until(done: Callable[[], bool], *, within_s: float = 400) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.2)


@dataclass(frozen=True)
class Answer:
    """One request's fate: the HTTP status, or what became of the connection, after `seconds`."""

    status: int | str
    seconds: float
    picture: int
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def degraded(self) -> bool:
        return bool(self.content.get("degraded"))


class Requester:
    """Sends `pictures` in turn, without any retries."""

    def __init__(self, url: str, *, num_pictures: int = 8, size_px: int = 128) -> None:
        self._url = f"{url}/v1/segment"
        self.pictures = [png(seed, size_px) for seed in range(num_pictures)]

    def ask(self, number: int, deadline_s: float) -> Answer:
        picture = number % len(self.pictures)
        start = time.monotonic()
        try:
            response = httpx.post(
                self._url,
                params={"deadline_s": deadline_s},
                content=self.pictures[picture],
                headers=IMAGE,
                timeout=deadline_s + 30,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            return Answer(repr(error), time.monotonic() - start, picture)
        seconds = time.monotonic() - start
        try:
            content = response.json()
        except ValueError:
            content = {"text": response.text[:300]}
        return Answer(response.status_code, seconds, picture, content)

    def is_whole(self, answer: Answer, reference: list[Answer]) -> bool:
        """Whether it is the answer for its own picture, as it was before anything was killed."""
        sha256 = hashlib.sha256(self.pictures[answer.picture]).hexdigest()
        own = answer.content["image"]["sha256"] == sha256
        return own and (
            answer.degraded or answer.content["instances"] == reference[answer.picture].content["instances"]
        )


def png(seed: int, size_px: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@contextmanager
def asking(
    ask: Callable[[int], Answer], *, concurrency: int, at_least: int, until: threading.Event
) -> Iterator[list[Answer]]:
    """Requests without a break, `concurrency` at a time, until `until` is set and `at_least` were answered; the list
    is whole when the block has been left."""
    answers: list[Answer] = []
    lock = threading.Lock()
    numbers = iter(range(10**9))

    def work() -> None:
        while not until.is_set() or len(answers) < at_least:
            with lock:
                number = next(numbers)
            answer = ask(number)
            with lock:
                answers.append(answer)

    with ThreadPoolExecutor(concurrency) as pool:
        workers = [pool.submit(work) for _ in range(concurrency)]
        try:
            yield answers
        finally:
            until.set()
    for worker in workers:
        worker.result()


def process_ids(deployment: str) -> set[int]:
    return {int(folder.name) for folder in replica_processes().get(deployment, [])}


def kill_one(deployment: str, rng: random.Random) -> float:
    """Kill one replica's process and return the seconds until all are there again."""
    wait_until(lambda: len(process_ids(deployment)) == 2)  # a title that is just changing is not read
    victim = rng.choice(sorted(process_ids(deployment)))
    start = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    # Until the controller has noticed, all is well by its own account: a new process shows that it has.
    wait_until(lambda: len(process_ids(deployment) - {victim}) == 2 and recovered())
    return time.monotonic() - start


def recovered() -> bool:
    """Whether every deployment is healthy with both of its replicas."""
    from ray import serve

    application = serve.status().applications["tis-ray"]
    states = [dict(one.replica_states) for one in application.deployments.values()]
    healthy = all(one.status == "HEALTHY" for one in application.deployments.values())
    return healthy and states == [{"RUNNING": 2}] * len(states)


def summary(answers: list[Answer], kills: list[tuple[str, float]]) -> str:
    """The figures of a run in one line."""
    statuses = Counter(answer.status for answer in answers)
    by_kind = Counter(deployment for deployment, _ in kills)
    return (
        f"{len(answers)} requests: {dict(statuses)}, {sum(answer.degraded for answer in answers)} degraded, "
        f"slowest {max(answer.seconds for answer in answers):.2f} s; "
        f"kills: {dict(by_kind)}, slowest recovery {max((seconds for _, seconds in kills), default=0):.1f} s"
    )
