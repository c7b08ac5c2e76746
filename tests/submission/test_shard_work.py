"""Shards of a run as they are worked on, with a segmenter of this process: whole, in order, and only what is asked."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.tiny import CATEGORIES
from tis_ray.config import Ensemble, parse
from tis_ray.errors import ServiceError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.runs import shards
from tis_ray.runs.folder import RunFolder, create
from tis_ray.runs.records import ViewOutcome
from tis_ray.submission.pipeline import Segmented, Segmenter
from tis_ray.submission.shard_work import ShardDone, segment_shard, segment_shards

ENSEMBLE = parse(
    Ensemble, {"members": {"a": {"checkpoint": "a", "scales": [64], "flip": False}}}, source="ensemble.yaml"
)
(VIEW,) = ENSEMBLE.views


def grey(image: NDArray[np.uint8]) -> Instances:
    """As many boxes as the picture is bright."""
    count = int(image[0, 0, 0])
    boxes = np.tile(np.array([[1, 1, 5, 5]], np.float32), (count, 1))
    return Instances.of(boxes, np.ones(count), np.ones(count))


def segmenter(image: NDArray[np.uint8]) -> Segmented:
    found = grey(image)
    return Segmented(found, {VIEW: found}, (ViewOutcome(VIEW.name, "ok", 0.1, len(found)),), "v1")


def degraded(image: NDArray[np.uint8]) -> Segmented:
    return Segmented(Instances.empty(), {}, (ViewOutcome(VIEW.name, "timeout", 2.0, 0),))


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunFolder]:
    def new(count: int, *, keeps_views: bool = False) -> RunFolder:
        listed = []
        for i in range(count):
            path = tmp_path / f"{i}.png"
            Image.fromarray(np.full((8, 9, 3), i, np.uint8)).save(path)
            listed.append(ListedImage(100 + i, path.name, path))
        return create(
            tmp_path / "run",
            {},
            ensemble=ENSEMBLE,
            categories=CATEGORIES,
            images=listed,
            images_per_shard=3,
            keeps_views=keeps_views,
        )

    return new


def work(run: RunFolder, *, segmenter: Segmenter = segmenter, **options: object) -> list[ShardDone]:
    numbers = range(run.num_shards)
    return list(segment_shards(segmenter, run, numbers, **options))


def test_every_image_is_in_its_shard_with_what_was_found(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(8, keeps_views=True)
    done = work(run, in_flight=2)
    assert [(one.number, one.num_ok, one.num_instances) for one in done] == [(0, 3, 3), (1, 3, 12), (2, 2, 13)]
    assert run.done() == [0, 1, 2]
    outcomes = list(run.outcomes())
    assert [(one.image_id, len(one.instances)) for one in outcomes] == [(100 + i, i) for i in range(8)]
    assert {(one.status, one.model_version, one.size_hw) for one in outcomes} == {("ok", "v1", (8, 9))}
    assert [one.file_bytes for one in outcomes] == [image.path.stat().st_size for image in run.images]
    assert outcomes[2].outcomes == (ViewOutcome(VIEW.name, "ok", 0.1, 2),)
    assert [len(one.found[VIEW]) for one in run.views()] == list(range(8))


def test_images_of_the_next_shard_are_worked_on_before_a_shard_is_complete(new_run: Callable[..., RunFolder]) -> None:
    """The first image waits for the fourth, which is in the second shard."""
    fourth = threading.Event()

    def waiting(image: NDArray[np.uint8]) -> Segmented:
        if image[0, 0, 0] == 3:
            fourth.set()
        if image[0, 0, 0] == 0:
            assert fourth.wait(30)
        return segmenter(image)

    done = work(new_run(6), segmenter=waiting, in_flight=4)
    assert [one.num_ok for one in done] == [3, 3]


def test_one_shard_alone_is_the_same(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(8)
    done = segment_shard(segmenter, run, 2, in_flight=5)
    assert (done.number, done.num_images, done.num_instances) == (2, 2, 13)
    assert run.done() == [2]
    assert [one.image_id for one in run.outcomes()] == [106, 107]


def test_an_image_that_cannot_be_read_is_noted_as_failed(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(4)
    run.images[1].path.write_bytes(b"no picture")
    assert [(one.num_ok, one.num_failed) for one in work(run)] == [(2, 1), (1, 0)]
    failed = list(run.outcomes())[1]
    assert (failed.status, failed.size_hw, failed.file_bytes, len(failed.instances)) == ("failed", (0, 0), 10, 0)
    assert "1.png" in failed.error


def test_images_are_looked_at_again_alone_and_the_others_stay(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(6, keeps_views=True)
    good = run.images[1].path.read_bytes()
    run.images[1].path.write_bytes(b"no picture")
    work(run)
    run.images[1].path.write_bytes(good)
    seen = []

    def counting(image: NDArray[np.uint8]) -> Segmented:
        seen.append(int(image[0, 0, 0]))
        return segmenter(image)

    (done,) = segment_shards(counting, run, [0], again={0: {101}})
    assert (seen, done.num_images) == ([1], 1)
    assert [(one.status, len(one.instances)) for one in run.outcomes()] == [("ok", i) for i in range(6)]
    assert [len(one.found[VIEW]) for one in run.views()] == list(range(6))


def test_an_image_that_would_get_worse_stays_as_it_is(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(2, keeps_views=True)
    work(run)
    list(segment_shards(degraded, run, [0], again={0: {101}}))
    assert [one.status for one in run.outcomes()] == ["ok", "ok"]
    assert [len(one.found) for one in run.views()] == [1, 1]
    good = run.images[1].path.read_bytes()
    run.images[1].path.unlink()
    list(segment_shards(segmenter, run, [0], again={0: {101}}))
    assert [one.status for one in run.outcomes()] == ["ok", "ok"]  # what is gone stays as it was
    run.images[1].path.write_bytes(good + b"another image")
    list(segment_shards(degraded, run, [0], again={0: {101}}))
    assert [one.status for one in run.outcomes()] == ["ok", "degraded"]


@pytest.mark.parametrize("worse", ["failed", "degraded"])
def test_a_kill_between_the_files_of_a_replaced_shard_leaves_no_views_that_its_results_do_not_know(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, worse: str
) -> None:
    run = new_run(2, keeps_views=True)

    def first(image: NDArray[np.uint8]) -> Segmented:
        if image[0, 0, 0] == 0:
            return segmenter(image)
        if worse == "failed":
            raise ServiceError("gone")
        return degraded(image)

    work(run, segmenter=first)

    def kill(path: Path, *_: object) -> None:
        raise KeyboardInterrupt(f"before {path}")

    with monkeypatch.context() as killing:
        killing.setattr(shards, "write", kill)
        with pytest.raises(KeyboardInterrupt):
            list(segment_shards(segmenter, run, [0], again={0: {101}}))
    assert [len(one.found) for one in run.views()] == [1, 1]  # as the kill left it
    kept = [(one.status, len(views.found)) for one, views in run.outcomes_with_views()]
    assert kept == [("ok", 1), (worse, 0)]
    list(segment_shards(segmenter, run, [0], again={0: {101}}))
    assert [(one.status, len(views.found)) for one, views in run.outcomes_with_views()] == [("ok", 1), ("ok", 1)]


def test_a_service_that_is_gone_ends_the_work_across_shards(new_run: Callable[..., RunFolder]) -> None:
    def gone(image: NDArray[np.uint8]) -> Segmented:
        raise ServiceError("gone")

    run = new_run(12)
    with pytest.raises(ServiceError, match=r"gave up after 8 images in a row, 7\.png the last: gone"):
        work(run, segmenter=gone)
    assert run.done() == [0, 1]


def test_each_image_is_told_of_as_it_is_there(new_run: Callable[..., RunFolder]) -> None:
    told: list[int] = []
    run = new_run(5)
    for done in segment_shards(segmenter, run, [0, 1], on_image=lambda one: told.append(one.image_id)):
        assert told == [one.image_id for one in run.outcomes()]
        assert run.done()[-1] == done.number
