"""Fixtures shared by all tests: a tiny checkpoint, a picture, and where the real data lies."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import save_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint directory with three classes."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture
def picture() -> np.ndarray:
    """A random uint8 RGB picture, 80 x 112."""
    return np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; skips the test where TIS_RAY_DATA is not set."""
    folder = os.environ.get("TIS_RAY_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TIS_RAY_DATA names no folder of real images")
    return Path(folder)
