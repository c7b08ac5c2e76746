"""Ground truth opened from a path alone: what kind it is follows from what lies there."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.config import WadFolder
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.coco_results import read_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.opening import open_dataset, open_path


def test_a_file_is_coco_json(tmp_path: Path):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 30, "height": 20}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "car"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = open_path(tmp_path / "truth.json")
    assert [record.id for record in truth.images] == [7]
    assert truth.annotations(7).boxes.tolist() == [[1, 2, 4, 6]]


@pytest.fixture
def wad(tmp_path: Path) -> Path:
    """`labels/` of the frames a, b and d, in each of which another number of rows is a car, and `images/` of a to d."""
    for folder in ("labels", "images"):
        (tmp_path / folder).mkdir()
    for rows, name in enumerate("abd", start=1):
        labels = np.full((20, 30), 255, np.uint16)
        labels[:rows] = 33000
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}_instanceIds.png")
    for name in "abcd":
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def rows_by_id(truth: GroundTruth) -> dict[int, int]:
    return {record.id: int(truth.annotations(record.id).boxes[0, 3]) for record in truth.images}


def test_frames_of_wad_labels_have_the_numbers_of_their_pictures_in_the_folder(wad: Path):
    truth = open_path(wad / "labels", wad / "images")
    assert [(record.id, record.file_name) for record in truth.images] == [(1, "a.jpg"), (2, "b.jpg"), (4, "d.jpg")]
    assert rows_by_id(truth) == {1: 1, 2: 2, 4: 3}
    with pytest.raises(DataError, match="expected an id of its 3 images; got 3"):
        truth.annotations(3)


def test_labels_of_pictures_that_a_list_lacks_are_left_out(wad: Path):
    (wad / "list.txt").write_text("images/c.jpg\nimages/d.jpg\nimages/a.jpg\n")
    assert rows_by_id(open_path(wad / "labels", wad / "list.txt")) == {2: 3, 3: 1}


def test_pictures_without_labels_and_doubled_ones_are_refused(wad: Path):
    (wad / "other.txt").write_text("images/c.jpg\n")
    with pytest.raises(DataError, match=r"images: expected pictures of frames .* got 1 others"):
        open_path(wad / "labels", wad / "other.txt")
    (wad / "twice.txt").write_text("images/a.jpg\nelsewhere/a.jpg\n")
    with pytest.raises(DataError, match=r"one picture of each frame; got .*images/a.jpg and .*elsewhere/a.jpg"):
        open_path(wad / "labels", wad / "twice.txt")


def test_found_riders_count_neither_way_where_they_are_background(wad: Path):
    def result(category_id: int) -> dict:
        return {"image_id": 1, "category_id": category_id, "bbox": [0, 0, 30, 1], "score": 0.5}

    path = wad / "results.json"
    path.write_text(json.dumps([result(37), result(33)]))
    truth = open_path(wad / "labels", wad / "images")
    assert [one["category_id"] for one in read_results(path, truth)] == [33]
    with_riders = open_dataset(WadFolder(labels=wad / "labels", images=wad / "images", rider=True))
    assert [one["category_id"] for one in read_results(path, with_riders)] == [37, 33]
    path.write_text(json.dumps([result(37), result(41)]))
    with pytest.raises(DataError, match="result 1 of image 1: category_id: expected one of the data set's; got 41"):
        read_results(path, truth)


def test_a_folder_of_labels_needs_its_pictures(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--image-folder: expected the pictures .* got none"):
        open_path(tmp_path)
