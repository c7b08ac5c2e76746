"""One real Serve application for all tests of the service, over real HTTP, with two tiny members."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble, load_ensemble
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks

LIMITS = {
    "max_bytes": 3_000_000,
    "max_pixels": 2_000_000,
    "deadline_s": 30,
    "max_deadline_s": 60,
    "max_queued_requests": 8,
}


@dataclass(frozen=True)
class Service:
    """A running service, the ensemble it runs, and where Ray's dashboard is."""

    url: str
    ensemble_path: Path
    ensemble: Ensemble
    dashboard: str


def write_ensemble(folder: Path) -> Path:
    for seed, name in enumerate(["one", "two"]):
        save_tiny_checkpoint(folder / name, seed=seed)
    content = {
        "members": {
            "one": {"checkpoint": "one", "scales": [64, 96]},
            "two": {"checkpoint": "two", "scales": [64], "flip": False},
        },
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.6}}, {"soft_nms": {}}], "top_k": 12},
        "limits": LIMITS,
        "replicas": {name: {"num_cpus": 0.5} for name in ("default", "gateway", "fusion")},
    }
    path = folder / "ensemble.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    from tis_ray.serving.local import free_port, serve_locally, start_ray

    path = write_ensemble(tmp_path_factory.mktemp("service"))
    ensemble = load_ensemble(path)
    import ray

    dashboard = start_ray(ensemble, dashboard=True, extra_cpus=2)
    assert dashboard is not None
    try:
        with serve_locally(ensemble, port=free_port()) as running:
            yield Service(running.url, path, ensemble, dashboard)
    finally:
        ray.shutdown()


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def found() -> Instances:
    """Three instances with masks in an image of 60 x 80, the last of them beyond its border."""
    boxes = np.array([[4, 5, 24, 25], [30, 10, 50, 40], [70, 50, 90, 70]], dtype=np.float32)
    patches = np.zeros((3, 14, 14), dtype=np.float16)
    patches[:, 2:12, 2:12] = 1
    return Instances.of(boxes, [0.9, 0.5, 0.25], [2, 0, 1], BoxMasks(boxes, patches))
