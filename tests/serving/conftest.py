"""Fixtures of the service's tests; the running service itself is in the root `conftest.py`."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.running_service import Service
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks


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
