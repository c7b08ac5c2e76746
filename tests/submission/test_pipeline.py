"""The batch pipeline with a segmenter in this process: order, bounds, failures, files."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.tiny import CATEGORIES
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.formats.categories import class_map
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.records import ImageOutcome
from tis_ray.submission.pipeline import GIVE_UP_AFTER, ImageResult, Segmented, segment_images
from tis_ray.submission.writing import write_results


def outcomes(results: Iterable[ImageResult]) -> Iterator[ImageOutcome]:
    return (result.outcome for result in results)


def segmenter(image: NDArray[np.uint8]) -> Segmented:
    """One object whose score tells the picture's grey level, so that results can be told apart."""
    box = np.array([[1, 1, 5, 5]], np.float32)
    masks = BoxMasks(box, np.ones((1, 28, 28), np.float16))
    return Segmented(Instances.of(box, [image[0, 0, 0] / 255], [1], masks))


@pytest.fixture
def images(tmp_path: Path) -> list[ListedImage]:
    listed = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((8, 9, 3), i, np.uint8)).save(path)
        listed.append(ListedImage(100 + i, path.name, path, (8, 9)))
    return listed


def test_results_come_in_order_though_work_ends_out_of_order(images: list[ListedImage]) -> None:
    def slow_first(image: NDArray[np.uint8]) -> Segmented:
        time.sleep(0.2 if image[0, 0, 0] == 0 else 0)
        return segmenter(image)

    results = list(segment_images(slow_first, images, in_flight=4))
    assert [result.image.id for result in results] == [image.id for image in images]
    assert [round(result.found.instances.scores[0] * 255) for result in results] == list(range(12))


def test_work_in_flight_is_bounded_and_goes_on_side_by_side(images: list[ListedImage]) -> None:
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3, timeout=30)

    def counting(image: NDArray[np.uint8]) -> Segmented:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()  # passes only while three run at once
        with lock:
            running -= 1
        return segmenter(image)

    results = list(segment_images(counting, images, in_flight=3))
    assert [result.error for result in results] == [""] * 12
    assert most <= 3


def test_failed_images_are_recorded_and_the_others_written(images: list[ListedImage], tmp_path: Path) -> None:
    images[2].path.unlink()
    images[5].path.write_bytes(images[5].path.read_bytes()[:40])
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(images[7].path)

    def failing(image: NDArray[np.uint8]) -> Segmented:
        if image[0, 0, 0] == 9:
            raise RuntimeError("replica\ndied")
        return segmenter(image)

    out = tmp_path / "out" / "results.json"
    out.parent.mkdir()
    summary = write_results(outcomes(segment_images(failing, images, in_flight=2)), out, categories=CATEGORIES)
    assert (summary.num_images, summary.num_instances) == (12, 8)
    failures = {entry["image_id"]: entry["error"] for entry in orjson.loads(summary.failures_file.read_bytes())}
    assert sorted(failures) == [102, 105, 107, 109]
    assert "2.png" in failures[102]
    assert "expected (8, 9)" in failures[107]
    assert failures[109] == "replica died"
    written = orjson.loads(out.read_bytes())
    assert sorted({entry["image_id"] for entry in written}) == [i for i in range(100, 112) if i not in failures]
    assert {entry["category_id"] for entry in written} == {36}


def test_a_clean_run_takes_an_old_failure_file_away(images: list[ListedImage], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    stale = tmp_path / "results.failed.json"
    stale.write_text("[]")
    summary = write_results(outcomes(segment_images(segmenter, images)), out, categories=CATEGORIES)
    assert summary.failures_file is None
    assert not stale.exists()


def test_no_images_write_an_empty_list(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    summary = write_results(outcomes(segment_images(segmenter, [])), out, categories=CATEGORIES)
    assert (summary.num_images, orjson.loads(out.read_bytes())) == (0, [])


def test_stopping_early_waits_for_nothing_and_leaves_no_thread(images: list[ListedImage]) -> None:
    stop = threading.Event()
    begun = []

    def until_stopped(image: NDArray[np.uint8]) -> Segmented:
        begun.append(image[0, 0, 0])
        if image[0, 0, 0] > 3:
            stop.wait(30)
        return segmenter(image)

    def segment_threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("segment")]

    started = time.monotonic()
    with closing(segment_images(until_stopped, images, in_flight=2)) as results:
        assert [next(results).image.id for _ in range(3)] == [100, 101, 102]
    assert time.monotonic() - started < 10  # the calls that run are not waited for
    stop.set()
    for thread in segment_threads():
        thread.join(10)
    assert not segment_threads()
    assert len(begun) <= 6


def test_an_error_while_writing_keeps_the_old_file(images: list[ListedImage], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    out.write_text("[]")

    def gone(image: NDArray[np.uint8]) -> Segmented:
        raise ServiceError("the fusion is gone")

    with pytest.raises(ServiceError, match=rf"gave up after {GIVE_UP_AFTER} images in a row, 7.png .*fusion is gone"):
        write_results(outcomes(segment_images(gone, images, in_flight=2)), out, categories=CATEGORIES)
    assert out.read_text() == "[]"
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".png"] == ["results.json"]


def test_a_short_list_on_which_every_image_fails_is_given_up_too(images: list[ListedImage]) -> None:
    def gone(image: NDArray[np.uint8]) -> Segmented:
        raise ServiceError("gone")

    with pytest.raises(ServiceError, match="gave up after 2 images"):
        list(segment_images(gone, images[:2]))


def test_images_that_cannot_be_opened_never_end_a_run(images: list[ListedImage]) -> None:
    for image in images:
        image.path.unlink()
    assert len(list(segment_images(segmenter, images))) == 12


def test_classes_are_written_with_the_data_sets_own_ids(images: list[ListedImage], tmp_path: Path) -> None:
    """The segmenter finds label 1, `person`, which is another label and another id in the data set."""
    out = tmp_path / "results.json"
    other = Categories((5, 8), ("person", "car"))
    summary = write_results(outcomes(segment_images(segmenter, images)), out, categories=CATEGORIES, written=other)
    assert (summary.num_instances, summary.num_dropped) == (12, 0)
    assert {entry["category_id"] for entry in orjson.loads(out.read_bytes())} == {5}


def test_classes_that_the_data_set_lacks_are_left_out_and_counted(images: list[ListedImage], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    summary = write_results(
        outcomes(segment_images(segmenter, images)), out, categories=CATEGORIES, written=Categories((1,), ("bus",))
    )
    assert (summary.num_instances, summary.num_dropped) == (0, 12)
    assert orjson.loads(out.read_bytes()) == []


def test_tables_without_a_common_class_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"categories: .*car, person, bus.*got tram"):
        class_map(CATEGORIES, Categories((1,), ("tram",)))
