"""`tis-ray predict` through kills: nothing lost, nothing asked for twice, and the file of an uninterrupted run."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest
import ray
from PIL import Image

from tests.running_service import Service
from tis_ray.submission.journal import journal_path

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


def kill_when_it_has_written(process: subprocess.Popen[str], path: Path, *, records: int) -> None:
    """SIGKILL once the journal has grown that often."""
    size, end = path.stat().st_size if path.exists() else 0, time.monotonic() + 100
    while records:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        now = path.stat().st_size if path.exists() else 0
        if now > size:
            size, records = now, records - 1
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_a_run_killed_again_and_again_writes_the_file_of_an_uninterrupted_one(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    formats = ("--images", folder, "--format", "wad", "--format", "coco", "--in-flight", "1")
    ended(started(service, *formats, "--out", whole))
    for records in (3, 1, 4):
        process = started(service, *formats, "--out", out, "--resume")
        kill_when_it_has_written(process, journal_path(out), records=records)
        assert not out.exists()
    told = ended(started(service, *formats, "--out", out, "--resume"))
    done = re.search(r"(\d+) of 16 images are done already", told)
    assert done is not None
    assert 5 <= int(done[1]) < 16
    assert out.read_bytes() == whole.read_bytes()
    assert out.with_suffix(".json").read_bytes() == whole.with_suffix(".json").read_bytes()
    assert not journal_path(out).exists()


def test_failed_images_are_tried_again_and_only_those(service: Service, folder: Path, tmp_path: Path) -> None:
    out, broken = tmp_path / "out.json", folder / "03.png"
    good = broken.read_bytes()
    broken.write_bytes(b"no picture")
    arguments = ("--images", folder, "--out", out)
    assert "1 images failed" in ended(started(service, *arguments), code=1)
    (failure,) = orjson.loads((tmp_path / "out.failed.json").read_bytes())
    assert failure["file_name"] == "03.png"
    assert 4 not in {entry["image_id"] for entry in orjson.loads(out.read_bytes())}
    told = ended(started(service, *arguments), code=2)
    assert re.search(r"out\.json\.partial holds an unfinished run, 15 images; .*--resume", told)

    broken.write_bytes(good)
    for other in folder.glob("*.png"):
        if other != broken:
            other.write_bytes(bytes(other.stat().st_size))  # not looked at again
    ended(started(service, *arguments, "--resume"))
    assert {entry["image_id"] for entry in orjson.loads(out.read_bytes())} == set(range(1, 17))
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.images.json", "out.json"]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_ensemble_and_its_images(service: Service, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    (folder / "03.png").write_bytes(b"no picture")
    arguments = ("--images", folder, "--out", out)
    ended(started(service, *arguments), code=1)
    told = ended(started(service, *arguments, "--resume", "--set", "fusion.top_k=3"), code=2)
    assert re.search(r"fusion\.top_k: expected 12, with which the unfinished run in .* began; got 3", told)
    (folder / "99.png").write_bytes(b"")
    told = ended(started(service, *arguments, "--resume"), code=2)
    assert re.search(r"images\.count: expected 16, .*; got 17", told)
