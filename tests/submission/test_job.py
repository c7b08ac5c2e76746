"""`jobs/pseudo_label.py`: from images to training data on a cluster, through the service that runs there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from tests.running_service import Service
from tis_ray.config import CocoFolder
from tis_ray.formats.opening import open_dataset
from tis_ray.submission import job

SCRIPT = Path(__file__).parents[2] / "jobs" / "pseudo_label.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(images / name)
    return tmp_path


def run(service: Service, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The job as Ray starts it on a cluster: a process that finds the cluster's address in its environment."""
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, SCRIPT, service.ensemble_path, *arguments, "--min-score", "0"]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False, env=environment
    )


@pytest.mark.ray
def test_what_the_service_finds_becomes_training_data(service: Service, folder: Path) -> None:
    (folder / "images" / "c.png").write_bytes(b"no picture")
    (folder / "list.txt").write_text("images/a.png\nimages/b.png\n")
    answer = run(service, "--images", folder / "list.txt", "--out", folder / "new" / "external.json")
    assert answer.returncode == 0, answer.stderr
    results = json.loads((folder / "new" / "external.results.json").read_text())
    assert f" boxes in 2 images: {folder / 'new' / 'external.json'}" in answer.stdout
    external = open_dataset(CocoFolder(annotations=folder / "new" / "external.json", images=folder))
    assert [record.path for record in external.images] == [folder / "images" / "a.png", folder / "images" / "b.png"]
    assert external.categories.names == ("car", "person", "bus")
    number = sum(len(external.entries(record.id)) for record in external.images)
    assert 0 < number <= len(results)


@pytest.mark.ray
def test_objects_that_labels_lack_are_looked_for_in_their_images(service: Service, folder: Path) -> None:
    truth = {
        "images": [{"id": 8, "file_name": "a.png", "width": 90, "height": 60}],
        "annotations": [],
        "categories": [{"id": 2, "name": "bus"}, {"id": 4, "name": "car"}, {"id": 5, "name": "person"}],
    }
    (folder / "labels.json").write_text(json.dumps(truth))
    answer = run(service, "--ground-truth", folder / "labels.json", "--out", folder / "unlabelled.json")
    assert answer.returncode == 0, answer.stderr
    data = CocoFolder(annotations=folder / "labels.json", unlabelled=folder / "unlabelled.json")
    assert len(open_dataset(data).annotations(8).unlabelled) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--ground-truth, --images: expected one of them"),
        (["--images", "i", "--ground-truth", "g.json"], "--ground-truth, --images: expected one of them"),
        (["--images", "i"], "gone.yaml: expected a readable YAML file"),
    ],
)
def test_mistakes_end_with_a_line_and_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main([str(tmp_path / "gone.yaml"), *arguments, "--out", str(tmp_path / "o.json")]) == 2
    assert message in capsys.readouterr().err


def test_without_a_cluster_the_teacher_is_served_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with job.cluster() as address:
        assert address is None
