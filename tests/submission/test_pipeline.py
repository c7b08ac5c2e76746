"""The batch pipeline with a segmenter in this process: order, bounds, failures, files."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.tiny import CATEGORIES
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.submission.pipeline import ImageResult, Segmented, segment_images, write_coco


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


def test_work_in_flight_is_bounded(images: list[ListedImage]) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def counting(image: NDArray[np.uint8]) -> Segmented:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return segmenter(image)

    assert len(list(segment_images(counting, images, in_flight=3))) == 12
    assert most == 3


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
    summary = write_coco(segment_images(failing, images, in_flight=2), out, categories=CATEGORIES)
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
    summary = write_coco(segment_images(segmenter, images), out, categories=CATEGORIES)
    assert summary.failures_file is None
    assert not stale.exists()


def test_no_images_write_an_empty_list(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    summary = write_coco(segment_images(segmenter, []), out, categories=CATEGORIES)
    assert (summary.num_images, orjson.loads(out.read_bytes())) == (0, [])


def test_stopping_early_leaves_no_file_and_no_thread(images: list[ListedImage], tmp_path: Path) -> None:
    out = tmp_path / "results.json"

    def interrupted() -> Iterator[ImageResult]:
        for i, result in enumerate(segment_images(segmenter, images, in_flight=2)):
            if i == 3:
                raise KeyboardInterrupt
            yield result

    with pytest.raises(KeyboardInterrupt):
        write_coco(interrupted(), out, categories=CATEGORIES)
    assert not out.exists()
