"""What the service refuses, over real HTTP: each a problem with its status, never a hang or a bare 500."""

import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.serving.bad_days import wait_until
from tests.serving.malformed import IMAGE, PIXELS, bomb, encoded, png_claiming, requests
from tests.serving.replicas import replica_processes
from tis_ray.errors import ServiceError
from tis_ray.serving.client import Client

pytestmark = pytest.mark.ray

BODIES = [
    pytest.param(400, b"", IMAGE, "body", id="empty body"),
    pytest.param(400, b"this is no picture", IMAGE, "image", id="undecodable"),
    pytest.param(400, encoded("JPEG")[:-400], IMAGE, "image", id="JPEG cut short"),
    pytest.param(400, encoded("PNG")[:2000], IMAGE, "image", id="PNG cut short"),
    pytest.param(413, bomb(), IMAGE, "image", id="200-megapixel bomb"),
    pytest.param(413, png_claiming(20_000, 10_000, b"junk"), IMAGE, "image", id="refused by its header alone"),
    pytest.param(413, bytes(3_000_001), IMAGE, "body", id="too many bytes"),
    pytest.param(415, encoded("JPEG"), {"Content-Type": "text/plain"}, "Content-Type", id="text"),
    pytest.param(415, encoded("JPEG"), {}, "Content-Type", id="no content type"),
    pytest.param(
        415, encoded("JPEG"), {"Content-Type": "application/x-www-form-urlencoded"}, "Content-Type", id="curl's own"
    ),
    pytest.param(400, b"x", {"Content-Type": "multipart/form-data"}, "Content-Type", id="form without boundary"),
    pytest.param(
        400, b"no parts here", {"Content-Type": "multipart/form-data; boundary=b"}, "body", id="form without parts"
    ),
]


PROBLEM = "application/problem+json"


def check_problem(response: httpx.Response, status: int, field: str | None = None) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM, (response.text, dict(response.headers))
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= set(problem)
    if field is not None:
        assert problem["field"] == field, problem
    return problem


@pytest.mark.parametrize(("status", "body", "headers", "field"), BODIES)
def test_bad_bodies(http, status, body, headers, field):
    check_problem(http.post("/v1/segment", content=body, headers=headers), status, field)


QUERIES = [
    pytest.param({"score_threshold": "1.5"}, "score_threshold", "1.5", id="score above 1"),
    pytest.param({"score_threshold": "nan"}, "score_threshold", "nan", id="not a number"),
    pytest.param({"max_instances": "0"}, "max_instances", "0", id="no instances"),
    pytest.param({"masks": "png"}, "masks", "png", id="unknown mask form"),
    pytest.param({"deadline_s": "-1"}, "deadline_s", "-1", id="deadline in the past"),
    pytest.param({"deadline_s": "61"}, "deadline_s", "61", id="deadline beyond the limit"),
    pytest.param({"explain": "perhaps"}, "explain", "perhaps", id="not a truth value"),
    pytest.param({"score_treshold": "0.5"}, "score_treshold", "0.5", id="misspelt name"),
]


@pytest.mark.parametrize(("query", "field", "got"), QUERIES)
def test_bad_query_values(http, query, field, got):
    response = http.post("/v1/segment", params=query, content=encoded("JPEG"), headers=IMAGE)
    problem = check_problem(response, 422, field)
    assert problem["got"] == got
    assert problem["expected"]


def test_two_hundred_malformed_requests_are_refused_and_no_replica_restarts(service):
    malformed = requests()
    assert len({(one.method, one.path, one.headers, one.body) for one in malformed}) == len(malformed) >= 200
    before = replica_processes()

    def ask(one) -> tuple[int, str, str]:
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
            client.headers.clear()
            response = client.request(one.method, one.path, content=one.body, headers=list(one.headers))
        detail = response.json().get("detail", "") if response.headers.get("Content-Type") == PROBLEM else ""
        return response.status_code, detail, response.text[:200]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, malformed))
    wrong = [
        f"{one.name}: expected {one.status} and a problem; got {status} {text}"
        for one, (status, detail, text) in zip(malformed, answers, strict=True)
        if status != one.status or not detail
    ]
    assert not wrong, "\n".join(wrong)
    print(Counter(status for status, _, _ in answers))
    wait_until(lambda: replica_processes() == before, within_s=10)  # a title that is just changing is not read


def test_a_chunked_body_is_cut_off_at_the_limit(http):
    def endless():
        for _ in range(400):
            yield bytes(64 * 1024)

    check_problem(http.post("/v1/segment", content=endless(), headers=IMAGE), 413, "body")


def test_a_form_without_the_field_image_names_what_it_has(http):
    response = http.post("/v1/segment", files={"picture": ("a.jpg", encoded("JPEG"), "image/jpeg")})
    assert check_problem(response, 400, "image")["got"] == "picture"


def test_unknown_path_and_wrong_method_are_problems_too(http):
    check_problem(http.get("/v2/nothing"), 404)
    assert check_problem(http.get("/v1/segment"), 405)["title"] == "Method Not Allowed"


@pytest.mark.parametrize("length", [17_000, 200_000])
def test_long_headers(http, length):
    response = http.post("/v1/segment", content=encoded("JPEG"), headers=IMAGE | {"X-Padding": "x" * length})
    check_problem(response, 431, "headers")


def test_a_deadline_too_short_for_the_views(service):
    """How long is too short depends on the machine: deadlines double while other requests keep the views busy."""

    def ask(deadline_s: float) -> httpx.Response:
        url = f"{service.url}/v1/segment?deadline_s={deadline_s}"
        return httpx.post(url, content=encoded("JPEG"), headers=IMAGE, timeout=60)

    with ThreadPoolExecutor(6) as pool:
        late = []
        for doubled in range(7):
            busy = [pool.submit(ask, 30) for _ in range(6)]
            response = ask(0.005 * 2**doubled)
            assert response.status_code in (200, 408, 503, 504), response.text
            late += [response] if response.status_code in (503, 504) else []
            assert all(future.result().status_code == 200 for future in busy)
    assert late
    for response in late:
        problem = check_problem(response, response.status_code)
        assert re.search("did not answer|the deadline passed|would not be answered in time", problem["detail"])


def head(length: int, *, deadline_s: float) -> bytes:
    lines = [f"POST /v1/segment?deadline_s={deadline_s} HTTP/1.1", "Host: x", "Content-Type: image/jpeg"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def send_slowly(url: str, start_of_it: bytes, chunks: list[bytes], *, pause_s: float) -> tuple[str, float]:
    """The answer to a request whose body comes chunk by chunk, and the seconds until it was there."""
    place = urlsplit(url)
    start = time.monotonic()
    answer = ""
    with socket.create_connection((place.hostname, place.port), timeout=40) as connection:
        connection.sendall(start_of_it)
        connection.settimeout(pause_s)
        for chunk in chunks:
            connection.sendall(chunk)
            try:
                answer += connection.recv(65536).decode()
                break
            except TimeoutError:
                continue
        connection.settimeout(40)
        while "}" not in answer:
            answer += connection.recv(65536).decode()
    return answer, time.monotonic() - start


def test_a_body_that_stops_arriving_is_given_up_long_before_the_deadline(service):
    stall_s = service.ensemble.limits.body_stall_s
    answer, seconds = send_slowly(service.url, head(9999, deadline_s=60), [encoded("JPEG")[:500]], pause_s=0.1)
    assert answer.startswith("HTTP/1.1 408")
    assert PROBLEM in answer
    assert f"nothing came for {stall_s:g} s" in answer
    assert stall_s <= seconds < 30


def test_a_body_that_trickles_in_is_given_up_at_the_deadline(service):
    head = (
        b"POST /v1/segment?deadline_s=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\n"
    )
    assert service.ensemble.limits.body_stall_s > 1  # a sender held up by a busy machine is late before it stalls
    answer, seconds = send_slowly(service.url, head, [b"x"] * 100, pause_s=0.1)
    assert answer.startswith("HTTP/1.1 408")
    assert "the deadline passed" in answer
    assert seconds < 15


def test_a_slow_body_that_keeps_coming_is_answered(service):
    content = encoded("JPEG")
    chunks = [content[start : start + len(content) // 8] for start in range(0, len(content), len(content) // 8)]
    answer, seconds = send_slowly(service.url, head(len(content), deadline_s=60), chunks, pause_s=0.4)
    assert answer.startswith("HTTP/1.1 200")
    assert seconds > service.ensemble.limits.body_stall_s


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"POST /v1/segment HTTP/1.1\r\nContent-Length: many\r\n\r\n", id="length in words"),
        pytest.param(b"POST /v1/segment HTTP/1.1\r\nContent-Length: -5\r\n\r\n", id="negative length"),
        pytest.param(b"nonsense\r\n\r\n", id="no request line"),
    ],
)
def test_what_is_no_http_is_told_so_before_it_reaches_the_gateway(service, start):
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(start)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_more_requests_than_places_are_told_to_come_again(service):
    content = encoded("PNG", np.repeat(np.repeat(PIXELS, 8, axis=0), 8, axis=1))

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/segment?deadline_s=60", content=content, headers=IMAGE, timeout=90)

    with ThreadPoolExecutor(40) as pool:
        responses = list(pool.map(ask, range(40)))
    statuses = {response.status_code for response in responses}
    assert statuses == {200, 503}
    refused = [response for response in responses if response.status_code == 503]
    for response in refused:
        assert int(response.headers["Retry-After"]) >= 1
        assert "waiting already" in check_problem(response, 503)["detail"]
    assert max(response.elapsed.total_seconds() for response in refused) < 20


def test_the_service_works_after_all_that(http):
    assert http.post("/v1/segment", content=encoded("JPEG"), headers=IMAGE).status_code == 200


def test_the_client_raises_the_services_reason(service):
    with Client(service.url) as client:
        with pytest.raises(ServiceError, match=r"400 .*cut short") as error:
            client.segment(encoded("JPEG")[:-400])
        assert error.value.status == 400
        with pytest.raises(ServiceError, match=r"422 .*masks"):
            client.segment(PIXELS, masks="png")
