"""An ensemble with a crop and a grid, its views grouped, over real HTTP beside the session's own application."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from ray import serve

import tis_ray
from tests.running_service import Service
from tests.serving.test_deploy import serve_command
from tests.serving.test_service import check_equal, picture_of
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import load_ensemble
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.serving.app import build
from tis_ray.serving.client import Client

pytestmark = pytest.mark.ray

CONTENT = {
    "members": {
        "one": {
            "checkpoint": "one",
            "scales": [64],
            "crops": {
                "strip": {"box": [10, 20, 100, 70], "scales": [48]},
                "grid": {"tiles": {"width": 64, "height": 48, "overlap": 20}, "scales": [56]},
                "far": {"box": [0, 1560, 3384, 2280], "scales": [48]},
            },
            "groups": {"low": [64, "48.strip", "48.far"]},
        }
    },
    "fusion": {"ranges": {"one@48.strip": [0, 40]}, "top_k": 30},
    "auth": "none",
    "replicas": {name: {"num_cpus": 0.1, "num_gpus": 0} for name in ("default", "gateway", "fusion", "one@low")},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grouped")
    save_tiny_checkpoint(folder / "one")
    (folder / "ensemble.yaml").write_text(yaml.safe_dump(CONTENT))
    return folder / "ensemble.yaml"


@pytest.fixture(scope="module")
def client(service: Service, path: Path) -> Iterator[Client]:
    serve.run(build(load_ensemble(path)), name="grouped", route_prefix="/grouped")
    try:
        with Client(f"{service.url}/grouped", timeout_s=60) as client:
            client.wait_until_ready(60)
            yield client
    finally:
        serve.delete("grouped")


@pytest.fixture(scope="module")
def local(path: Path) -> EnsemblePredictor:
    return tis_ray.load(path, device="cpu")


@pytest.mark.parametrize("size_hw", [(80, 112), (70, 100), (40, 50)])
def test_answers_as_one_process_does(client, local, size_hw):
    pixels = picture_of(3, *size_hw)
    result = client.segment(pixels, explain=True)
    check_equal({"instances": [asdict(one) for one in result.instances]}, local.predict(pixels), local, size_hw)
    expected = local.predict_views(pixels)
    assert not result.degraded
    for outcome, view in zip(result.views, local.views, strict=True):
        assert outcome.status == "ok"
        scores = np.array([row["score"] for row in outcome.detections], dtype=np.float32)
        np.testing.assert_array_equal(scores, expected[view].scores)


def test_views_say_what_they_look_at(client):
    shown = {
        (view["crop_name"], view["scale"]): (view["crop"], view["tile"])
        for view in client.ensemble()["views"]
        if not view["flip"]
    }
    assert shown == {
        (None, 64): (None, None),
        ("strip", 48): ([10, 20, 100, 70], None),
        ("grid", 56): (None, {"width": 64, "height": 48, "overlap": 20}),
        ("far", 48): ([0, 1560, 3384, 2280], None),
    }
    outcomes = client.segment(picture_of(0)).views
    assert {(view.crop_name, view.crop) for view in outcomes if view.crop} == {
        ("strip", (10, 20, 100, 70)),
        ("far", (0, 1560, 3384, 2280)),
    }
    assert {view.instances for view in outcomes if view.crop_name == "far"} == {0}


def test_a_group_is_one_deployment_that_ray_knows_by_name(client, service):
    assert client.ensemble()["deployments"] == ["one@56.grid", "one@low"]
    listed = yaml.safe_load(serve_command("status", "--address", service.dashboard))["applications"]["grouped"]
    running = {name: one["replica_states"] for name, one in listed["deployments"].items()}
    assert running == {name: {"RUNNING": 1} for name in ("Gateway", "Fusion", "one@56.grid", "one@low")}
