"""Files of unlabelled boxes: written and read back, joined with a data set, and refused where they do not fit it."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tis_ray.config import CocoFolder
from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.opening import open_dataset
from tis_ray.formats.unlabelled import add_unlabelled, read_unlabelled, write_unlabelled

LABELS = {
    "images": [{"id": id_, "file_name": f"{id_}.jpg", "width": 40, "height": 30} for id_ in (3, 5)],
    "annotations": [{"id": 1, "image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
    "categories": [{"id": 2, "name": "car"}],
}
CONTENT = {
    "images": [{"id": 5, "width": 40, "height": 30, "bboxes": [[2, 3, 10, 8], [30, 20, 10.5, 10]], "scores": [0.9, 1]}]
}


@pytest.fixture
def truth(tmp_path: Path) -> coco.CocoDataset:
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    return coco.read(tmp_path / "labels.json")


def test_boxes_come_back_as_they_were_written(tmp_path: Path, truth: coco.CocoDataset) -> None:
    path = tmp_path / "unlabelled.json"
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.5, 10, (6, 2))], axis=1).astype(np.float32)
    write_unlabelled(path, {5: (boxes, [0.5] * 6)}, truth, made_by={"min_score": 0.5})
    found = read_unlabelled(path, truth)
    assert list(found) == [5]
    np.testing.assert_allclose(found[5], boxes, atol=2e-3)
    assert found[5].dtype == np.float32
    content = json.loads(path.read_text())
    assert content["made_by"] == {"min_score": 0.5}
    assert content["images"][0]["scores"] == [0.5] * 6


def test_annotations_get_the_boxes_of_their_images(tmp_path: Path, truth: coco.CocoDataset) -> None:
    (tmp_path / "unlabelled.json").write_text(json.dumps(CONTENT))
    joined = add_unlabelled(truth, tmp_path / "unlabelled.json")
    assert joined.annotations(5).unlabelled.tolist() == [[2, 3, 12, 11], [30, 20, 40, 30]]  # cut to the image
    assert joined.annotations(3).unlabelled.shape == (0, 4)
    assert joined.annotations(3).boxes.tolist() == [[1, 2, 4, 6]]
    assert joined.entries(3) == truth.entries(3)
    assert joined.image(5) == truth.image(5)
    assert (len(joined), joined.images, joined.categories, joined.path) == (
        len(truth), truth.images, truth.categories, truth.path
    )  # fmt: skip
    assert truth.annotations(5).unlabelled is None


def test_a_recipe_s_data_names_the_file(tmp_path: Path, truth: coco.CocoDataset) -> None:
    (tmp_path / "unlabelled.json").write_text(json.dumps(CONTENT))
    folder = CocoFolder(annotations=truth.path, unlabelled=tmp_path / "unlabelled.json")
    assert len(open_dataset(folder).annotations(5).unlabelled) == 2
    assert open_dataset(CocoFolder(annotations=truth.path)).annotations(5).unlabelled is None


def test_an_empty_file_leaves_every_image_without(tmp_path: Path, truth: coco.CocoDataset) -> None:
    write_unlabelled(tmp_path / "unlabelled.json", {}, truth, made_by={})
    assert read_unlabelled(tmp_path / "unlabelled.json", truth) == {}


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][0].update({key: value})


def doubled(content: dict[str, Any]) -> None:
    content["images"] *= 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content.clear(), r"images: expected a list of images with boxes; got no such key"),
        (lambda content: content.update(images={}), r"images: expected a list of images with boxes; got \{\}"),
        (lambda content: content.update(images=[3]), r"images\[0\]: expected an object; got int"),
        (changed("id", 4), r"images\[0\]: id: expected one of the 2 images of .*labels.json; got 4"),
        (changed("id", "5"), r"images\[0\]: id: expected one of the 2 images of .*; got '5'"),
        (doubled, r"images\[1\]: id: expected each image once; got 5"),
        (changed("width", 80), r"image 5: width and height: expected 40x30 as the data set has them; got 80x30"),
        (changed("bboxes", None), r"image 5: bboxes: expected a list of boxes; got None"),
        (changed("bboxes", [[2, 3, 10, 8], [1, 2, 3]]), r"image 5: bboxes\[1\]: expected finite .*; got \[1, 2, 3\]"),
        (changed("bboxes", [[2, math.nan, 10, 8]]), r"image 5: bboxes\[0\]: expected finite .*; got \[2, nan, 10, 8\]"),
        (changed("bboxes", [[2, 3, 0, 8]]), r"image 5: bboxes\[0\]: expected .* of a box within 40x30; got"),
        (changed("bboxes", [[2, 3, 10, 80]]), r"image 5: bboxes\[0\]: expected .* of a box within 40x30; got"),
        (changed("bboxes", [[-2, 3, 10, 8]]), r"image 5: bboxes\[0\]: expected .* of a box within 40x30; got"),
        (changed("scores", [0.9]), r"image 5: scores: expected 2 numbers in 0..1, one for each box; got \[0.9\]"),
        (changed("scores", [0.9, math.nan]), r"image 5: scores: expected 2 numbers in 0..1, .*; got \[0.9, nan\]"),
        (changed("scores", [0.9, 1.5]), r"image 5: scores: expected 2 numbers in 0..1"),
        (changed("scores", None), r"image 5: scores: expected 2 numbers in 0..1"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    spoil: Callable[[dict[str, Any]], None], message: str, tmp_path: Path, truth: coco.CocoDataset
) -> None:
    content = copy.deepcopy(CONTENT)
    spoil(content)
    (tmp_path / "unlabelled.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"unlabelled\.json: " + message):
        read_unlabelled(tmp_path / "unlabelled.json", truth)


def test_a_file_that_is_gone_is_named(tmp_path: Path, truth: coco.CocoDataset) -> None:
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        read_unlabelled(tmp_path / "gone.json", truth)


def test_what_cannot_be_written_is_named(tmp_path: Path, truth: coco.CocoDataset) -> None:
    with pytest.raises(DataError, match=r"nowhere/unlabelled\.json: cannot be written \(No such file"):
        write_unlabelled(tmp_path / "nowhere" / "unlabelled.json", {}, truth, made_by={})
