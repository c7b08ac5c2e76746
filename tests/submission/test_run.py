"""`tis-ray predict` through the running deployments: the same answers as one process, failures recorded."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image
from rich.console import Console

import tis_ray
from tests.running_service import Service
from tis_ray.errors import ConfigError
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.image_list import read_image_list
from tis_ray.serving.running import fusion_handle
from tis_ray.submission.pipeline import segment_images, service_segmenter, write_coco
from tis_ray.submission.run import predict_to_coco

pytestmark = pytest.mark.ray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 256, (60 + 10 * i, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i}.png")
    return images


def test_results_equal_one_process_and_failures_are_listed(service: Service, folder: Path, tmp_path: Path) -> None:
    (folder / "3.png").write_bytes(b"no picture")
    segmenter = service_segmenter(fusion_handle(), service.ensemble.views, deadline_s=60)
    local = tis_ray.load(service.ensemble_path, device="cpu")
    results = segment_images(segmenter, read_image_list(folder), in_flight=3)
    summary = write_coco(results, tmp_path / "results.json", categories=local.categories)
    assert [one.image.file_name for one in summary.failed] == ["3.png"]
    expected = []
    for listed in read_image_list(folder):
        if listed.file_name != "3.png":
            with Image.open(listed.path) as picture:
                size_hw = (picture.height, picture.width)
            found = local.predict(listed.path)
            expected += to_results(found, image_id=listed.id, categories=local.categories, size_hw=size_hw)
    assert orjson.loads((tmp_path / "results.json").read_bytes()) == expected


def test_views_come_with_masks_when_asked_for(service: Service, folder: Path) -> None:
    views = service.ensemble.views
    segmenter = service_segmenter(fusion_handle(), views, deadline_s=60, keep_views=True)
    (result,) = segment_images(segmenter, read_image_list(folder)[:1])
    assert result.found is not None
    assert set(result.found.views) == set(views)
    assert all(found.masks is not None and len(found.masks) == len(found) for found in result.found.views.values())


def test_unusable_output_is_refused_before_anything_starts(service: Service, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out: expected a file; .* is a folder"):
        predict_to_coco(service.ensemble, folder, tmp_path, console=Console(quiet=True))
