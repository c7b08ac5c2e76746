"""What the service refuses, over real HTTP: each a problem with its status, never a hang or a bare 500."""

import io
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import ServiceError
from tis_ray.serving.client import Client

pytestmark = pytest.mark.ray

PIXELS = np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)


def encoded(kind: str, pixels: np.ndarray = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


def png_claiming(width: int, height: int, data: bytes) -> bytes:
    """A PNG whose header says width x height 1-bit pixels, around `data`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """200 megapixels in some 30 KB."""
    return png_claiming(20_000, 10_000, zlib.compress(bytes(10_000 * (1 + 2500)), 9))


IMAGE = {"Content-Type": "image/jpeg"}
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
    pytest.param(400, b"x", {"Content-Type": "multipart/form-data"}, "body", id="form without boundary"),
    pytest.param(
        400, b"no parts here", {"Content-Type": "multipart/form-data; boundary=b"}, "body", id="form without parts"
    ),
]


def check_problem(response: httpx.Response, status: int, field: str | None = None) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
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
            late += [response] if response.status_code == 504 else []
            assert all(future.result().status_code == 200 for future in busy)
    assert late
    assert "deadline" in check_problem(late[0], 504)["detail"]


def test_a_body_that_stops_arriving(service):
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/segment?deadline_s=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 100000\r\n\r\n" + encoded("JPEG")[:500]
        )
        answer = ""
        while "}" not in answer:
            answer += connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert '"field":"body"' in answer


def test_more_requests_than_places_are_told_to_come_again(service):
    content = encoded("PNG", np.repeat(np.repeat(PIXELS, 8, axis=0), 8, axis=1))

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/segment", content=content, headers=IMAGE, timeout=60)

    with ThreadPoolExecutor(40) as pool:
        responses = list(pool.map(ask, range(40)))
    statuses = {response.status_code for response in responses}
    assert statuses == {200, 503}
    refused = next(response for response in responses if response.status_code == 503)
    assert int(refused.headers["Retry-After"]) >= 1
    check_problem(refused, 503)


def test_the_service_works_after_all_that(http):
    assert http.post("/v1/segment", content=encoded("JPEG"), headers=IMAGE).status_code == 200


def test_the_client_raises_the_services_reason(service):
    with Client(service.url) as client:
        with pytest.raises(ServiceError, match=r"400 .*cut short") as error:
            client.segment(encoded("JPEG")[:-400])
        assert error.value.status == 400
        with pytest.raises(ServiceError, match=r"422 .*masks"):
            client.segment(PIXELS, masks="png")
