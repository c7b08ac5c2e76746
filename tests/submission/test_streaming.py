"""Shards streamed through the running service by Ray Data: what one process finds, through kills too."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.running_service import Service
from tests.serving.replicas import replica_processes
from tests.submission.streamed import found, new_run, write_images
from tis_ray.config import Ensemble
from tis_ray.errors import ServiceError
from tis_ray.serving.running import fusion_handle
from tis_ray.submission.pipeline import Segmented
from tis_ray.submission.service import ServiceSegmenter
from tis_ray.submission.shard_work import segment_shards
from tis_ray.submission.streaming import served, stream_shards

pytestmark = pytest.mark.ray


def segmenter(ensemble: Ensemble):
    return served(ensemble.views, deadline_s=60, keep_views=True)


def actor_processes() -> list[int]:
    """Process ids of the actors of Ray Data's pools on this machine that this session's Ray has started."""
    ours = {folder.name for folders in replica_processes().values() for folder in folders}
    parents = {_parent(Path("/proc") / name) for name in ours}
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker") and _parent(folder) in parents:
                pids.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return pids


def _parent(folder: Path) -> str:
    return next(line.split()[1] for line in (folder / "status").read_text().splitlines() if line.startswith("PPid:"))


def test_a_streamed_run_finds_what_this_process_finds(service: Service, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 7)
    (images / "004.png").write_bytes(b"no picture")
    here = new_run(tmp_path / "here", service.ensemble, images)
    with closing(ServiceSegmenter(fusion_handle(), service.ensemble.views, deadline_s=60, keep_views=True)) as one:
        told = list(segment_shards(one, here, [0, 1, 2], in_flight=4))
    streamed = new_run(tmp_path / "streamed", service.ensemble, images)
    done = list(stream_shards(streamed, [0, 1, 2], open_segmenter=segmenter(service.ensemble), in_flight=4))
    assert found(streamed.path) == found(here.path)
    counts = {(one.number, one.num_ok, one.num_degraded, one.num_failed, one.num_instances) for one in told}
    assert {(one.number, one.num_ok, one.num_degraded, one.num_failed, one.num_instances) for one in done} == counts
    assert sorted((one.number, one.num_failed) for one in done) == [(0, 0), (1, 1), (2, 0)]


@pytest.mark.slow
def test_images_are_looked_at_again_and_others_stay(service: Service, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 6)
    good = (images / "004.png").read_bytes()
    (images / "004.png").write_bytes(b"no picture")
    run = new_run(tmp_path / "run", service.ensemble, images)
    open_segmenter = segmenter(service.ensemble)
    assert {one.num_failed for one in stream_shards(run, [0, 1], open_segmenter=open_segmenter)} == {0, 1}
    before = run.shard(0).read_bytes()
    (images / "004.png").write_bytes(good)
    (done,) = stream_shards(run, [1], open_segmenter=open_segmenter, again={1: [5]}, has_worked=True)
    assert (done.number, done.num_images, done.num_ok) == (1, 1, 1)
    assert [one.status for one in run.outcomes()] == ["ok"] * 6
    assert run.shard(0).read_bytes() == before


@pytest.mark.slow
def test_killed_actors_and_view_servers_change_nothing(service: Service, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 60)
    whole = new_run(tmp_path / "whole", service.ensemble, images)
    open_segmenter = segmenter(service.ensemble)
    list(stream_shards(whole, range(20), open_segmenter=open_segmenter, in_flight=4))
    run = new_run(tmp_path / "run", service.ensemble, images)
    numbers = []
    for done in stream_shards(run, range(20), open_segmenter=open_segmenter, in_flight=4):
        numbers.append(done.number)
        if len(numbers) == 3:
            os.kill(actor_processes()[0], signal.SIGKILL)
        if len(numbers) == 9:
            (folder,) = replica_processes()["two@64"]
            os.kill(int(folder.name), signal.SIGKILL)
    assert sorted(numbers) == list(range(20))
    assert found(run.path) == found(whole.path)
    assert sorted(path.name for path in run.shard(0).parent.iterdir()) == [f"{n:06}.parquet" for n in range(20)]


class Broken:
    """Fails on everything, as a service whose model is broken does."""

    def __call__(self, image: NDArray[np.uint8]) -> Segmented:
        raise ServiceError("views failed: one@64 (error)")


@pytest.mark.slow
def test_a_service_that_fails_ends_the_run_in_its_own_words_and_leaves_no_actor(
    service: Service, tmp_path: Path
) -> None:
    run = new_run(tmp_path / "run", service.ensemble, write_images(tmp_path / "images", 30), images_per_shard=10)
    with pytest.raises(ServiceError, match=r"^gave up after 8 images in a row, .*views failed: one@64 \(error\)$"):
        list(stream_shards(run, range(3), open_segmenter=Broken, in_flight=2))
    assert run.done() == []
    assert not list(left_after(20))


@pytest.mark.slow
def test_stopping_early_leaves_whole_shards_and_no_actor(service: Service, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", service.ensemble, write_images(tmp_path / "images", 30))
    with closing(stream_shards(run, range(10), open_segmenter=segmenter(service.ensemble), in_flight=2)) as shards:
        first = next(shards)
    assert not list(left_after(20))
    assert first.number in run.done()
    assert len(run.done()) < 10
    assert {one.status for one in run.outcomes()} == {"ok"}


def left_after(seconds: float) -> Iterator[int]:
    end = monotonic() + seconds
    while actor_processes() and monotonic() < end:
        sleep(0.5)
    yield from actor_processes()
