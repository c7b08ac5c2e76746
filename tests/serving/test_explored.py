"""The service against its own description, by schemathesis: no status, type, header, body or method but those that are
described, whatever is asked: of an application whose fusion is a plain coroutine, and of the running service."""

import numpy as np
import pytest
import schemathesis

from tests.serving.explored import Explored, configured, explore
from tests.serving.test_gateway import CATEGORIES, fused, gateway
from tests.serving.test_routes import ENSEMBLE
from tis_ray.instances import Instances
from tis_ray.serving.routes import build_app

TOKEN = "the-token-of-this-test"


@pytest.fixture(scope="module")
def explored() -> Explored:
    async def section():
        return ENSEMBLE.fusion, None

    boxes = np.array([[4, 5, 24, 25], [30, 10, 50, 40]], dtype=np.float32)
    app = build_app(
        gateway(answer=fused(Instances.of(boxes, [0.9, 0.5], [2, 0]))),
        ensemble=ENSEMBLE,
        categories=CATEGORIES,
        model_version="0123456789ab",
        fusion_section=section,
        tokens=(TOKEN,),
    )
    config = configured(token=TOKEN, max_examples=10)
    return explore(schemathesis.openapi.from_asgi("/openapi.json", app, config=config))


def test_every_answer_is_as_it_is_described(explored):
    assert not explored.wrong, "\n\n".join(explored.wrong)


def test_that_was_no_idle_talk(explored):
    of_segment = {status for label, status in explored.statuses if label == "POST /v1/segment"}
    assert {200, 401, 405, 415, 422} <= of_segment
    of_others = {(label, status) for label, status in explored.statuses if "segment" not in label}
    assert {(f"GET {path}", 200) for path in ("/v1/ensemble", "/healthz", "/readyz")} <= of_others
    assert explored.statuses.total() > 100


@pytest.mark.ray
def test_the_running_service_is_as_it_is_described_too(service):
    config = configured(token=None, max_examples=5, late=("503", "504"))
    explored = explore(schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=config))
    assert not explored.wrong, "\n\n".join(explored.wrong)
    assert {200, 405, 415, 422} <= {status for label, status in explored.statuses if label == "POST /v1/segment"}
