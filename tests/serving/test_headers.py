"""Headers of every answer, whatever it is, and what HEAD and wrong methods get; without Ray."""

import asyncio

import pytest

from tests.serving.test_gateway import fused, gateway, png
from tests.serving.test_routes import IMAGE, ask
from tis_ray.serving.headers import SAFE_HEADERS, SafeHeaders


async def broken(frame, *, image_hw, deadline_s, explain):
    raise RuntimeError("a defect")


ANSWERS = {
    "an answer": (200, "POST", "/v1/segment", {"headers": IMAGE, "content": png()}),
    "health": (200, "GET", "/healthz", {}),
    "not ready": (503, "GET", "/readyz", {}),
    "the description": (200, "GET", "/openapi.json", {}),
    "no such path": (404, "GET", "/v2", {}),
    "a wrong method": (405, "GET", "/v1/segment", {}),
    "a wrong query": (422, "POST", "/v1/segment?masks=png", {"headers": IMAGE, "content": png()}),
    "a refused body": (415, "POST", "/v1/segment", {"content": b"x"}),
    "long headers": (431, "GET", "/healthz", {"headers": {"X-Long": "x" * 20_000}}),
}


@pytest.mark.parametrize(("status", "method", "path", "request_"), ANSWERS.values(), ids=ANSWERS)
def test_every_answer_of_the_interface_has_the_safe_headers(found, status, method, path, request_):
    response = ask(method, path, service=gateway(answer=fused(found)), **request_)
    assert response.status_code == status
    assert dict(response.headers) | {name.lower(): value for name, value in SAFE_HEADERS.items()} == response.headers


def test_defects_and_pages_have_them_too():
    defect = ask("POST", "/v1/segment", service=gateway(fusion=broken), headers=IMAGE, content=png())
    assert defect.status_code == 500
    for response in (defect, ask("GET", "/"), ask("GET", "/docs")):
        assert set(map(str.lower, SAFE_HEADERS)) <= set(response.headers)
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
def test_no_other_origin_is_allowed_anything(method):
    asked = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"}
    response = ask(method, "/v1/segment", headers=asked)
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_an_answers_own_header_is_kept_and_never_doubled():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-cache")]})
        await send({"type": "http.response.body", "body": b""})

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(SafeHeaders(app)({"type": "http"}, None, send))
    headers = sent[0]["headers"]
    assert (b"cache-control", b"no-cache") in headers
    assert len({name for name, _ in headers}) == len(headers) == len(SAFE_HEADERS)


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz", "/v1/ensemble", "/openapi.json", "/v2"])
def test_head_is_get_without_its_body(path):
    head, get = ask("HEAD", path), ask("GET", path)
    assert (head.status_code, head.headers, head.content) == (get.status_code, get.headers, b"")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/segment", "POST"),
        ("HEAD", "/v1/segment", "POST"),
        ("OPTIONS", "/v1/segment", "POST"),
        ("TRACE", "/v1/segment", "POST"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/ensemble", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method, path, allowed):
    response = ask(method, path)
    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_slash_too_many_is_no_redirect_to_whatever_host_was_sent():
    response = ask("GET", "/healthz/", headers={"Host": "elsewhere"})
    assert response.status_code == 404
    assert "Location" not in response.headers
