"""Batch runs are killed, with what works for them: nothing is lost, and the file is that of an uninterrupted run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from tests.running_service import Service, write_ensemble
from tests.serving.replicas import own_processes, replica_processes
from tis_ray.formats.image_list import read_image_list
from tis_ray.runs.folder import holds_run, open_run
from tis_ray.serving.running import fusion_handle
from tis_ray.submission.pipeline import segment_images
from tis_ray.submission.service import ServiceSegmenter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NUM_IMAGES, PER_SHARD = 60, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        pixels = rng.integers(0, 256, (40 + i % 7, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i:02}.png")
    return images


def started(ensemble: Path, images: Path, out: Path, *options: str, kill: tuple[str, int] | None = None) -> "Driver":
    """`tis-ray predict`, that kills itself at a point of `killed_driver` where that is asked for."""
    code = ["-c", "from tis_ray.cli import main; main()"]
    if kill is not None:
        code = ["-m", "tests.submission.killed_driver", kill[0], str(kill[1])]
    arguments = ["--images", images, "--out", out, "--images-per-shard", PER_SHARD, *options]
    command = [sys.executable, *code, "predict", ensemble, *arguments]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


Driver = subprocess.Popen[str]


def ended(process: Driver, code: int = 0) -> str:
    """What it said on stderr, once it has ended with this exit code."""
    _, told = process.communicate(timeout=600)
    assert process.returncode == code, told
    return " ".join(told.split())


def num_done(run: Path) -> int:
    return len(open_run(run).done()) if holds_run(run) else 0


def wait_for_shards(process: Driver, run: Path, number: int) -> None:
    end = time.monotonic() + 300
    while num_done(run) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ensemble(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture(scope="module")
def whole(ensemble: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The results file of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out.json"
    ended(started(ensemble, folder, out, "--keep-views"))
    return out.read_bytes()


@pytest.mark.parametrize(("point", "done"), [("write", 2), ("rename", 2), ("renamed", 3)])
def test_a_driver_killed_around_a_shard(
    ensemble: Path, folder: Path, whole: bytes, tmp_path: Path, point: str, done: int
) -> None:
    out = tmp_path / "out.json"
    ended(started(ensemble, folder, out, "--keep-views", kill=(point, 3)), -signal.SIGKILL)
    assert num_done(tmp_path / "out.run") == done
    assert not out.exists()
    ended(started(ensemble, folder, out, "--resume"))
    assert out.read_bytes() == whole
    assert not list((tmp_path / "out.run").rglob(".partial-*"))
    assert len(list(open_run(tmp_path / "out.run").views())) == NUM_IMAGES


def test_a_driver_killed_at_five_random_moments(ensemble: Path, folder: Path, whole: bytes, tmp_path: Path) -> None:
    out, run, generator = tmp_path / "out.json", tmp_path / "out.run", random.Random(0)
    for _ in range(5):
        process = started(ensemble, folder, out, "--resume")
        wait_for_shards(process, run, num_done(run) + 1)
        time.sleep(generator.uniform(0, 0.4))
        process.kill()
        process.communicate()
        if out.exists():  # it was through before
            break
    ended(started(ensemble, folder, out, "--resume"))
    assert out.read_bytes() == whole


def test_sigterm_ends_a_run_cleanly_and_says_how_to_go_on(
    ensemble: Path, folder: Path, whole: bytes, tmp_path: Path
) -> None:
    out, run = tmp_path / "out.json", tmp_path / "out.run"
    process = started(ensemble, folder, out)
    wait_for_shards(process, run, 2)
    process.terminate()
    told = ended(process, 128 + signal.SIGTERM)
    assert f"of 60 images are kept in {run}; the same command with --resume goes on" in told
    assert "Traceback" not in told
    assert not list(run.rglob(".partial-*"))
    ended(started(ensemble, folder, out, "--resume"))
    assert out.read_bytes() == whole


def view_server() -> list[int]:
    return [int(one.name) for one in replica_processes()["two@64"]]


def fusion() -> list[int]:
    return [int(one.name) for one in replica_processes()["Fusion"]]


def reader() -> list[int]:
    """An actor of the pipeline, that writes shards."""
    return own_processes("ray::MapWorker")[:1]


@pytest.mark.ray
@pytest.mark.parametrize(
    ("readers", "victims"),
    [("here", view_server), ("here", fusion), ("cluster", view_server), ("cluster", reader)],
    ids=["view server", "fusion", "view server, read on the cluster", "reader"],
)
def test_a_worker_killed_under_a_run(
    service: Service, folder: Path, whole: bytes, tmp_path: Path, readers: str, victims: Callable[[], list[int]]
) -> None:
    """Of the same weights as the ensemble that one process ran; an image that failed meanwhile is looked at again."""
    out, run = tmp_path / "out.json", tmp_path / "out.run"
    options = ("--address", ray.get_runtime_context().gcs_address, "--readers", readers)
    process = started(service.ensemble_path, folder, out, *options)
    wait_for_shards(process, run, 2)
    killed = victims()
    assert killed
    for victim in killed:
        os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=600)
    ended(started(service.ensemble_path, folder, out, *options, "--resume", "--retry", "failed"))
    assert out.read_bytes() == whole


@pytest.mark.ray
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
