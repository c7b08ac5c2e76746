"""A batch run goes on when replicas are killed under it."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.running_service import Service
from tests.serving.replicas import replica_processes
from tis_ray.formats.image_list import read_image_list
from tis_ray.serving.running import fusion_handle
from tis_ray.submission.pipeline import segment_images
from tis_ray.submission.service import ServiceSegmenter

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("deployment", ["two@64", "Fusion"])
def test_no_image_is_lost_with_a_killed_replica(service: Service, tmp_path: Path, deployment: str) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    segmenter = ServiceSegmenter(fusion_handle(), service.ensemble.views, deadline_s=60)
    results = []
    for result in segment_images(segmenter, read_image_list(tmp_path), in_flight=3):
        results.append(result)
        if len(results) == 5:
            (folder,) = replica_processes()[deployment]
            os.kill(int(folder.name), signal.SIGKILL)
    assert [result.error for result in results] == [""] * 20
