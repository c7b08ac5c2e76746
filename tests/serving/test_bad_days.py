"""Replicas are killed, frozen, updated and taken away under a service that goes on answering."""

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest

from tests.serving.bad_days import (
    TRANSPORT_S,
    VIEW_SERVERS,
    Answer,
    Requester,
    asking,
    deploy,
    doubled,
    kill_one,
    process_ids,
    recovered,
    save_members,
    summary,
    wait_until,
)
from tests.serving.load.standing import standing
from tis_ray.errors import ServiceError
from tis_ray.serving.client import Client

pytestmark = [pytest.mark.ray, pytest.mark.slow]

REQUESTS = int(os.environ.get("TIS_RAY_SOAK_REQUESTS", "1000"))
KILLS = 6
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The folder of the two members."""
    return save_members(tmp_path_factory.mktemp("members"))


@pytest.fixture(scope="module")
def url(request, members):
    """The service with two replicas of everything: in the place of the session's own for a while, if that runs."""
    with standing(doubled(members), request) as address:
        yield address


@pytest.fixture(scope="module")
def requester(url):
    return Requester(url)


@pytest.fixture(scope="module")
def reference(requester):
    """Each picture's whole answer while all is well."""
    answers = [requester.ask(number, 60) for number in range(len(requester.pictures))]
    assert [(answer.status, answer.degraded) for answer in answers] == [(200, False)] * len(answers)
    return answers


def faults(answers: list[Answer], requester: Requester, reference: list[Answer], deadline_s: float) -> list[Answer]:
    """The answers that break the promise: 200 with its own picture's content, or 503, never late."""
    return [
        answer
        for answer in answers
        if answer.status not in (200, 503)
        or answer.seconds > deadline_s + TRANSPORT_S
        or (answer.status == 200 and not requester.is_whole(answer, reference))
    ]


def test_every_request_is_answered_in_time_while_view_servers_and_fusions_are_killed(requester, reference):
    rng = random.Random(0)
    kills: list[tuple[str, float]] = []
    done = threading.Event()
    asked = asking(lambda n: requester.ask(n, DEADLINE_S), concurrency=8, at_least=REQUESTS, until=done)
    with asked as answers:
        for deployment in itertools.cycle([VIEW_SERVERS[0], "Fusion", VIEW_SERVERS[1], "Fusion"]):
            kills.append((deployment, kill_one(deployment, rng)))
            if len(kills) >= KILLS and len(answers) >= REQUESTS:
                break
    print(summary(answers, kills))
    assert len(answers) >= REQUESTS
    assert not faults(answers, requester, reference, DEADLINE_S)
    assert sum(answer.status == 200 for answer in answers) > 0.9 * len(answers)


def test_the_client_heals_what_is_lost_with_a_killed_gateway(url, requester, reference):
    rng = random.Random(1)
    kills: list[tuple[str, float]] = []
    raw: Counter[int] = Counter()
    with Client(url, timeout_s=120) as client:
        client._http.event_hooks = {"response": [lambda response: raw.update([response.status_code])]}

        def ask(number: int) -> Answer:
            picture = number % len(requester.pictures)
            start = time.monotonic()
            try:
                result = client.segment(requester.pictures[picture], deadline_s=DEADLINE_S)
            except ServiceError as error:
                return Answer(str(error), time.monotonic() - start, picture)
            return Answer(200, time.monotonic() - start, picture, {"degraded": result.degraded})

        with asking(ask, concurrency=4, at_least=100, until=threading.Event()) as answers:
            for _ in range(3):
                kills.append(("Gateway", kill_one("Gateway", rng)))
    print(summary(answers, kills), f"responses with retries: {dict(raw)}")
    assert [answer for answer in answers if answer.status != 200] == []


def test_views_without_a_replica_are_named_in_a_degraded_answer(requester, reference):
    for victim in process_ids("two@128"):
        os.kill(victim, signal.SIGKILL)
    answers = [requester.ask(number, 3.0) for number in range(4)]
    wait_until(recovered)
    print(summary(answers, []))
    assert not faults(answers, requester, reference, 3.0)
    degraded = [answer for answer in answers if answer.degraded]
    assert degraded
    for answer in degraded:
        statuses = {(view["member"], view["status"]) for view in answer.content["views"]}
        assert statuses <= {("one", "ok"), ("two", "error"), ("two", "timeout")}
    wait_until(lambda: requester.ask(0, DEADLINE_S).content.get("degraded") is False)


def test_a_frozen_replica_makes_nobody_wait_beyond_the_deadline(requester, reference):
    frozen = min(process_ids("one@128"))
    os.kill(frozen, signal.SIGSTOP)
    try:
        with asking(lambda n: requester.ask(n, 3.0), concurrency=4, at_least=20, until=threading.Event()) as answers:
            pass
    finally:
        os.kill(frozen, signal.SIGCONT)
    print(summary(answers, []))
    assert not faults(answers, requester, reference, 3.0)
    wait_until(recovered)


def test_requests_in_flight_are_answered_while_every_replica_is_replaced(url, members, requester, reference):
    """An update stops the replicas of each deployment one after the other; each first answers what it has."""
    before = {name: process_ids(name) for name in ("Gateway", "Fusion", *VIEW_SERVERS)}
    asked = asking(lambda n: requester.ask(n, DEADLINE_S), concurrency=4, at_least=20, until=threading.Event())
    with asked as answers:
        deploy(doubled(members), url)
        wait_until(recovered)
    print(summary(answers, []))
    assert not any(process_ids(name) & pids for name, pids in before.items())
    assert not faults(answers, requester, reference, DEADLINE_S)
    assert [answer for answer in answers if answer.status != 200 or answer.degraded] == []
