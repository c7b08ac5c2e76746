"""Fixtures shared by all tests: a tiny checkpoint, a picture, and where the real data lies."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports PyTorch: threads that wait for each other cost networks this small more than they bring, and
# where something else runs beside them, a hundred times as much.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from tests.running_service import Service, write_ensemble
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import load_ensemble


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint directory with three classes."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture
def picture() -> np.ndarray:
    """A random uint8 RGB picture, 80 x 112."""
    return np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One real Serve application for all tests, over real HTTP; its Ray runs until the session ends."""
    import ray

    from tis_ray.serving.local import free_port, serve_locally, start_ray

    os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # else a test of metrics waits for half a minute
    path = write_ensemble(tmp_path_factory.mktemp("service"))
    ensemble = load_ensemble(path)
    dashboard = start_ray(ensemble, dashboard=True, extra_cpus=4)  # for batch runs and training
    assert dashboard is not None
    try:
        with serve_locally(ensemble, port=free_port()) as running:
            yield Service(running.url, path, ensemble, dashboard)
    finally:
        ray.shutdown()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; skips the test where TIS_RAY_DATA is not set."""
    folder = os.environ.get("TIS_RAY_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TIS_RAY_DATA names no folder of real images")
    return Path(folder)
