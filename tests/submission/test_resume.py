"""`tis-ray predict` again: failures are looked at once more when that is asked for, and a run keeps what it is of."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
import ray
from PIL import Image

from tests.running_service import Service

pytestmark = pytest.mark.ray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(images / f"{i:02}.png")
    return images


def started(service: Service, *arguments: str | Path) -> subprocess.Popen[str]:
    """`tis-ray predict` in a process of its own, through the service that runs already."""
    code = "from tis_ray.cli import main; main()"
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", code, "predict", service.ensemble_path, "--address", address, *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """What it said on stderr, on one line, once it has ended with this exit code."""
    _, told = process.communicate(timeout=240)
    assert process.returncode == code, told
    return " ".join(told.split())


def test_failed_images_are_tried_again_when_asked_and_only_those(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    out, broken = tmp_path / "out.json", folder / "03.png"
    good = broken.read_bytes()
    broken.write_bytes(bytes(len(good)))
    arguments = ("--images", folder, "--out", out, "--images-per-shard", "5")
    told = ended(started(service, *arguments), code=1)
    assert "1 images failed, listed in" in told
    assert "--retry failed looks at them again" in told
    (failure,) = orjson.loads((tmp_path / "out.failed.json").read_bytes())
    assert failure["file_name"] == "03.png"
    assert 4 not in {entry["image_id"] for entry in orjson.loads(out.read_bytes())}
    told = ended(started(service, *arguments), code=2)
    assert re.search(r"out\.run holds a run, 16 of 16 images done; .*--resume", told)

    broken.write_bytes(good)
    for other in folder.glob("*.png"):
        if other != broken:
            other.write_bytes(bytes(other.stat().st_size))  # not looked at again
    told = ended(started(service, *arguments, "--retry", "failed"))
    assert "15 of 16 images are done already" in told
    assert {entry["image_id"] for entry in orjson.loads(out.read_bytes())} == set(range(1, 17))
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.images.json", "out.json", "out.run"]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_ensemble_and_its_images(service: Service, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    (folder / "03.png").write_bytes(b"no picture")
    arguments = ("--images", folder, "--out", out)
    ended(started(service, *arguments), code=1)
    told = ended(started(service, *arguments, "--resume", "--set", "fusion.top_k=3"), code=2)
    assert re.search(r"fusion\.top_k: expected 12, with which the run in .* began; got 3", told)
    (folder / "99.png").write_bytes(b"")
    told = ended(started(service, *arguments, "--resume"), code=2)
    assert re.search(r"images\.count: expected 16, .*; got 17", told)
