"""The HTTP interface without Ray: tokens, readiness and defects, through the real application."""

import asyncio

import httpx
import pytest

from tests.serving.test_gateway import CATEGORIES, fused, gateway, png
from tis_ray.config import Ensemble
from tis_ray.serving.routes import build_app

ENSEMBLE = Ensemble.model_validate({"members": {"a": {"checkpoint": "a", "scales": [64]}}})
IMAGE = {"Content-Type": "image/png"}


def ask(method: str, path: str, *, service=None, tokens=(), **request) -> httpx.Response:
    async def section():
        return ENSEMBLE.fusion, "fusion.rules.0: expected one of nms, soft_nms; got 'nsm'"

    app = build_app(
        service or gateway(),
        ensemble=ENSEMBLE,
        categories=CATEGORIES,
        model_version="0123456789ab",
        fusion_section=section,
        tokens=tokens,
    )

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/segment"), ("GET", "/v1/ensemble")])
def test_a_wrong_token_is_refused_before_anything_else(method, path):
    response = ask(method, path, tokens=("right",), headers={"Authorization": "Bearer wrong"}, params={"masks": "png"})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["got"] == "a wrong token"


def test_the_right_token_opens(found):
    headers = IMAGE | {"Authorization": "Bearer right"}
    service = gateway(answer=fused(found))
    response = ask("POST", "/v1/segment", service=service, tokens=("right",), headers=headers, content=png())
    assert response.status_code == 200
    assert len(response.json()["instances"]) == 3


def test_a_picture_in_a_form_never_touches_the_disk(found, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    service = gateway(answer=fused(found))
    picture = png() + bytes(2**21)  # beyond what a form keeps in memory by default
    response = ask("POST", "/v1/segment", service=service, files={"image": ("a.png", picture)})
    assert response.status_code == 200, response.text


def test_health_and_pages_need_no_token():
    assert [ask("GET", path, tokens=("right",)).status_code for path in ("/healthz", "/", "/docs")] == [200] * 3


def test_not_ready_before_the_warm_up():
    response = ask("GET", "/readyz")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


def test_a_defect_is_a_problem_without_its_inner_life():
    async def broken(frame, *, image_hw, deadline_s, explain):
        raise RuntimeError("secret path /root")

    response = ask("POST", "/v1/segment", service=gateway(fusion=broken), headers=IMAGE, content=png())
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


def test_says_which_fusion_section_is_in_force_and_why_another_is_not(found):
    answer = ask("GET", "/v1/ensemble").json()
    assert answer["fusion"]["top_k"] == 100
    assert answer["fusion_refused"] == "fusion.rules.0: expected one of nms, soft_nms; got 'nsm'"
    assert answer["quorum"] == {"views": 1.0}
    assert answer["limits"]["body_stall_s"] == 10
