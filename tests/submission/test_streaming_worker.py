"""What an actor of the streamed pipeline does with a shard, without Ray around it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from ray._private.label_utils import validate_label_selector

from tests.tiny import CATEGORIES
from tis_ray.config import Ensemble, parse
from tis_ray.errors import ConfigError, DataError, ServiceError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.runs.folder import RunFolder, create
from tis_ray.submission import streaming
from tis_ray.submission.pipeline import Segmented, Segmenter, Streak
from tis_ray.submission.shard_work import ShardDone

ENSEMBLE = parse(
    Ensemble, {"members": {"a": {"checkpoint": "a", "scales": [64], "flip": False}}}, source="ensemble.yaml"
)


class Counting:
    """Finds one box in each image, and counts how often it was asked; fails while it is told to."""

    def __init__(self) -> None:
        self.opened, self.asked = 0, 0
        self.error: Exception | None = None

    def open(self) -> Segmenter:
        self.opened += 1
        return self

    def __call__(self, image: NDArray[np.uint8]) -> Segmented:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Segmented(Instances.of(np.ones((1, 4), np.float32), np.ones(1), np.zeros(1)))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two shards of three images."""
    listed = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((8, 9, 3), i, np.uint8)).save(path)
        listed.append(ListedImage(10 + i, path.name, path))
    return create(
        tmp_path / "run",
        {},
        ensemble=ENSEMBLE,
        categories=CATEGORIES,
        images=listed,
        images_per_shard=3,
        keeps_views=False,
    )


def worker(run: RunFolder, segmenter: Counting, **options: object) -> streaming._Worker:
    given = {"run": run.path, "open_segmenter": segmenter.open, "in_flight": 2, "again": {}, "streak": Streak()}
    return streaming._Worker(**(given | options))


def told(actor: streaming._Worker, number: int) -> ShardDone:
    """What the driver makes of a row; raises what it raises."""

    class Rows:
        def iter_batches(self, **_: object) -> list[streaming.Rows]:
            return [actor({"number": np.array([number])})]

    (done,) = streaming._rows(Rows())
    return done


def test_a_shard_is_written_and_told(run: RunFolder) -> None:
    segmenter = Counting()
    actor = worker(run, segmenter)
    assert [told(actor, number).number for number in (1, 0)] == [1, 0]
    assert run.done() == [0, 1]
    assert (segmenter.opened, segmenter.asked) == (1, 6)
    done = told(worker(run, segmenter), 0)
    assert (done.num_ok, done.num_degraded, done.num_failed, done.num_instances) == (3, 0, 0, 3)


def test_a_shard_that_a_dead_actor_has_written_is_not_done_again(run: RunFolder) -> None:
    first, second = Counting(), Counting()
    before = told(worker(run, first), 0)
    content = run.shard(0).read_bytes()
    after = told(worker(run, second), 0)
    assert second.asked == 0
    assert (after.num_ok, after.num_instances) == (before.num_ok, before.num_instances)
    assert run.shard(0).read_bytes() == content


def test_images_are_looked_at_again_where_that_is_asked_for(run: RunFolder) -> None:
    told(worker(run, Counting()), 0)
    segmenter = Counting()
    assert told(worker(run, segmenter, again={0: [11]}), 0).num_images == 1
    assert segmenter.asked == 1


@pytest.mark.parametrize("error", [ServiceError("the model is broken"), RuntimeError("anything")])
def test_a_service_that_fails_on_all_images_ends_the_run_in_its_words(run: RunFolder, error: Exception) -> None:
    segmenter = Counting()
    segmenter.error = error
    with pytest.raises(ServiceError, match=rf"^gave up after 3 images in a row, 2\.png the last: {error}$"):
        told(worker(run, segmenter, streak=Streak(at_first=3)), 0)
    assert run.done() == []


def test_a_first_shard_that_fails_is_not_all_there_is_to_go_by(run: RunFolder) -> None:
    segmenter = Counting()
    segmenter.error = ServiceError("a bad minute")
    actor = worker(run, segmenter)
    assert told(actor, 0).num_failed == 3
    segmenter.error = None
    assert told(actor, 1).num_ok == 3


@pytest.mark.parametrize(("actors", "again", "images"), [(1, {}, 6), (2, {}, 3), (2, {1: [14]}, 2), (9, {}, 1)])
def test_an_actor_may_fail_on_its_share_at_first(run: RunFolder, actors: int, again: dict, images: int) -> None:
    assert streaming._at_first(run, [0, 1], again, actors) == images


def test_a_service_that_has_worked_before_is_given_time(run: RunFolder) -> None:
    segmenter = Counting()
    actor = worker(run, segmenter)
    told(actor, 0)
    segmenter.error = ServiceError("the model is broken")
    assert told(actor, 1).num_failed == 3
    assert told(worker(run, segmenter, again={1: [13, 14, 15]}, streak=Streak(has_worked=True)), 1).num_failed == 3


def test_a_service_that_is_gone_ends_the_run_however_small_shards_are(run: RunFolder) -> None:
    segmenter = Counting()
    actor = worker(run, segmenter, again={0: [10, 11, 12], 1: [13, 14, 15]}, streak=Streak(has_worked=True))
    for number in (0, 1):
        told(worker(run, segmenter), number)
    segmenter.error = ServiceError("gone")
    assert [told(actor, number).num_failed for number in (0, 1)] == [3, 3]
    with pytest.raises(ServiceError, match=r"gave up after 8 images in a row, 1\.png the last: gone"):
        told(actor, 0)
    segmenter.error = None
    told(actor, 0)  # an answer begins the count anew
    segmenter.error = ServiceError("gone")
    assert [told(actor, number).num_failed for number in (0, 1)] == [3, 3]


def test_a_folder_that_a_node_does_not_see_ends_the_run(run: RunFolder, tmp_path: Path) -> None:
    elsewhere = worker(run, Counting())
    run.path.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="run: expected the folder of a batch run"):
        told(elsewhere, 0)


def test_a_disk_that_is_full_ends_the_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write", full)
    with pytest.raises(ServiceError, match="No space left on device"):
        told(worker(run, Counting()), 0)


def test_a_refusal_stays_one(run: RunFolder) -> None:
    def refuse() -> Segmenter:
        raise ConfigError("auth: expected a token")

    with pytest.raises(ConfigError, match=r"^auth: expected a token$"):
        told(worker(run, Counting(), open_segmenter=refuse), 0)


def test_actors_leave_a_head_alone() -> None:
    assert streaming._but_for([]) is None
    first, second = "a" * 56, "b" * 56
    selector = streaming._but_for([first, second])
    assert selector == {"ray.io/node-id": f"!in({first},{second})"}
    assert validate_label_selector(selector) is None


@pytest.mark.parametrize(("in_flight", "actors"), [(1, 2), (16, 2), (17, 3), (4000, 500)])
def test_images_in_flight_are_shared_by_at_least_two_actors(in_flight: int, actors: int) -> None:
    assert streaming.num_actors(in_flight) == actors


@pytest.mark.parametrize("replicas", [1, 4, 1000])
def test_no_replica_waits_for_an_image(replicas: int) -> None:
    assert streaming.enough_in_flight(replicas) >= 2 * replicas


def test_the_next_shard_is_under_way_while_the_first_waits_for_its_last_image(run: RunFolder) -> None:
    first_of_next, began = threading.Event(), []

    class Slow(Counting):
        def __call__(self, image: NDArray[np.uint8]) -> Segmented:
            number = int(image[0, 0, 0])
            began.append(number)
            if number == 3:
                first_of_next.set()
            elif number == 2:
                assert first_of_next.wait(30)  # it ends only after an image of the other shard began
            return super().__call__(image)

    actor = worker(run, Slow())
    with ThreadPoolExecutor() as pool:
        first = pool.submit(told, actor, 0)
        while not began:
            time.sleep(0.01)
        second = pool.submit(told, actor, 1)
        assert [first.result().num_ok, second.result().num_ok] == [3, 3]
    assert sorted(began) == [0, 1, 2, 3, 4, 5]
