"""`tis-ray predict` through the running deployments: the same answers as one process, failures recorded."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import orjson
import pytest
import ray
from PIL import Image
from rich.console import Console

import tis_ray
from tests.running_service import Service
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.image_list import read_image_list
from tis_ray.results import fuse_files, open_files
from tis_ray.runs.folder import open_run
from tis_ray.serving.running import fusion_handle
from tis_ray.serving.versions import version_of
from tis_ray.submission.pipeline import segment_images
from tis_ray.submission.run import predict as predict_images
from tis_ray.submission.service import ServiceSegmenter
from tis_ray.submission.writing import write_results

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
    segmenter = ServiceSegmenter(fusion_handle(), service.ensemble.views, deadline_s=60)
    local = tis_ray.load(service.ensemble_path, device="cpu")
    outcomes = (one.outcome for one in segment_images(segmenter, read_image_list(folder), in_flight=3))
    summary = write_results(outcomes, tmp_path / "results.json", categories=local.categories)
    assert [one.file_name for one in summary.failed] == ["3.png"]
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
    segmenter = ServiceSegmenter(fusion_handle(), views, deadline_s=60, keep_views=True)
    (result,) = segment_images(segmenter, read_image_list(folder)[:1])
    assert result.found is not None
    assert set(result.found.views) == set(views)
    assert all(found.masks is not None and len(found.masks) == len(found) for found in result.found.views.values())


def predict(service: Service, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`tis-ray predict` in a process of its own, through the service that runs already."""
    code = "from tis_ray.cli import main; main()"
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", code, "predict", service.ensemble_path, "--address", address, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)


def test_predict_writes_the_running_services_answers_and_notes_ids(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    answer = predict(service, "--images", folder, "--out", out, "--resume")
    assert answer.returncode == 0, answer.stderr
    assert "to go on with; a new one begins" in " ".join(answer.stderr.split())
    versions = {one.model_version for one in open_run(tmp_path / "results.run").outcomes()}
    assert versions == {version_of(service.ensemble)}
    noted = orjson.loads((tmp_path / "results.images.json").read_bytes())["images"]
    assert noted == [{"id": i + 1, "file_name": f"{i}.png"} for i in range(6)]
    assert {entry["image_id"] for entry in orjson.loads(out.read_bytes())} == set(range(1, 7))
    assert {entry["category_id"] for entry in orjson.loads(out.read_bytes())} <= {33, 36, 39}
    assert not (tmp_path / "results.failed.json").exists()


def test_predict_writes_a_jsons_own_image_and_category_ids(service: Service, folder: Path, tmp_path: Path) -> None:
    """Ids are what one process finds, with `car` and `bus` renumbered in another order and `person` left out."""
    with Image.open(folder / "0.png") as picture:
        width, height = picture.size
    content = {
        "images": [{"id": 70, "file_name": "0.png", "width": width, "height": height}],
        "categories": [{"id": 4, "name": "bus"}, {"id": 6, "name": "car"}],
    }
    listing, out = tmp_path / "listing.json", tmp_path / "results.json"
    listing.write_bytes(orjson.dumps(content))
    answer = predict(service, "--images", listing, "--image-folder", folder, "--out", out)
    assert answer.returncode == 0, answer.stderr
    found = tis_ray.load(service.ensemble_path, device="cpu").predict(folder / "0.png")
    renumbered = [{0: 6, 2: 4}[label] for label in found.labels.tolist() if label != 1]
    assert [entry["category_id"] for entry in orjson.loads(out.read_bytes())] == renumbered
    assert {entry["image_id"] for entry in orjson.loads(out.read_bytes())} <= {70}
    dropped = len(found) - len(renumbered)
    assert (f"left out {dropped} instances" in answer.stderr) == (dropped > 0)


def test_each_views_results_fused_from_their_files_are_the_ensembles(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    local = tis_ray.load(service.ensemble_path, device="cpu")
    images = read_image_list(folder)
    entries = [
        {"id": image.id, "file_name": image.file_name, "width": 90, "height": 60 + 10 * i}
        for i, image in enumerate(images)
    ]
    listing, out, views = tmp_path / "listing.json", tmp_path / "results.json", tmp_path / "views"
    listing.write_bytes(orjson.dumps({"images": entries, "categories": local.categories.to_json()}))
    answer = predict(service, "--images", listing, "--image-folder", folder, "--out", out, "--views", views)
    assert answer.returncode == 0, answer.stderr
    names = [f"{view.key}{'.flip' if view.flip else ''}.json" for view in service.ensemble.views]
    assert sorted(path.name for path in views.iterdir()) == sorted([*names, "fuse.yaml"])
    fuse_files(open_files([views / "fuse.yaml"]), listing, tmp_path / "fused.json")
    fused, whole = (orjson.loads((tmp_path / name).read_bytes()) for name in ("fused.json", "results.json"))
    assert len(fused) == len(whole) > 0
    for one, other in zip(fused, whole, strict=True):  # files hold px to 3 decimals and scores to 6
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert one["category_id"] == other["category_id"]
        assert one["bbox"] == pytest.approx(other["bbox"], abs=2e-3)
        assert one["segmentation"] == other["segmentation"]


def test_predict_refuses_a_fusion_section_that_does_not_run(service: Service, folder: Path, tmp_path: Path) -> None:
    answer = predict(service, "--images", folder, "--out", tmp_path / "x.json", "--set", "fusion.top_k=5")
    assert answer.returncode == 2, answer.stderr
    assert "fusion.top_k: expected 12, as the running service has it; got 5" in " ".join(answer.stderr.split())


def test_predict_refuses_weights_that_the_service_has_not_read(service: Service, folder: Path, tmp_path: Path) -> None:
    changed = service.ensemble.members["one"].checkpoint / "recipe.yaml"
    before = changed.read_bytes()
    changed.write_bytes(before + b"# another training\n")
    try:
        answer = predict(service, "--images", folder, "--out", tmp_path / "x.json")
    finally:
        changed.write_bytes(before)
    assert answer.returncode == 2, answer.stderr
    told = " ".join(answer.stderr.split())
    assert "members: expected checkpoints as the running service read them, model version" in told


def test_closing_cancels_what_is_waited_for(service: Service) -> None:
    segmenter = ServiceSegmenter(fusion_handle(), service.ensemble.views, deadline_s=60)
    outcome: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(1000):
                segmenter(np.zeros((600, 900, 3), np.uint8))
        except ServiceError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    started = time.monotonic()
    segmenter.close()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - started < 8
    assert len(outcome) == 1
    with pytest.raises(ServiceError, match="stopped"):
        segmenter(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("suffix", ["json", "failed.json", "images.json"])
def test_results_never_overwrite_the_images(service: Service, tmp_path: Path, suffix: str) -> None:
    listing = tmp_path / f"listing.{suffix}"
    listing.write_text("{}")
    with pytest.raises(ConfigError, match="--out: expected another file than --images"):
        predict_images(service.ensemble, listing, tmp_path / "listing.json", console=Console(quiet=True))
    assert listing.read_text() == "{}"


def test_allowing_what_the_quorum_never_gives_is_refused(service: Service, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--allow-degraded: expected a quorum\.views below 1 .*; got 1, with which"):
        predict_images(service.ensemble, folder, tmp_path / "x.json", console=Console(quiet=True), allow_degraded=True)


def test_unusable_output_is_refused_before_anything_starts(service: Service, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out: expected a file; .* is a folder"):
        predict_images(service.ensemble, folder, tmp_path, console=Console(quiet=True))
