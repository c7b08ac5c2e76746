"""Labels by a teacher: which results become annotations, and that training can read the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.coco_results import stream_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.image_list import read_image_list
from tis_ray.instances import Categories
from tis_ray.ops import rle as rle_ops
from tis_ray.self_training.external import Labelled, label_images, listed_dataset

WIDTH, HEIGHT = 60, 40
CATEGORIES = Categories((7, 9), ("cup", "bun"), frequency=("f", "r"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    (folder / "b").mkdir(parents=True)
    for name in ("a.jpg", "b/c.png", "d.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    return folder


@pytest.fixture
def pool(images: Path) -> GroundTruth:
    return listed_dataset(images, read_image_list(images), CATEGORIES)


def mask_of(box: tuple[int, int, int, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    crop = np.ones((y2 - y1, x2 - x1), np.uint8)
    return dict(rle_ops.encode_crops([crop], np.array([[x1, y1]], np.int32), HEIGHT, WIDTH)[0])


def result(bbox: list[float], score: float = 0.9, *, image_id: int = 1, **others: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 7, "bbox": bbox, "score": score, **others}


def labelled(results: list[dict[str, Any]], pool: GroundTruth, folder: Path, **options: float) -> Labelled:
    """By way of a results file, as a teacher leaves it."""
    (folder / "results.json").write_text(json.dumps(results))
    return label_images(stream_results(folder / "results.json", pool), pool, **options)


def read_back(found: Labelled, folder: Path) -> coco.CocoDataset:
    (folder / "external.json").write_text(json.dumps(found.content))
    return coco.read(folder / "external.json", found.image_folder)


def test_the_file_is_a_training_set(pool: GroundTruth, tmp_path: Path) -> None:
    results = [
        result([5, 5, 10, 8], 0.8, image_id=2, segmentation=mask_of((6, 6, 14, 12))),
        result([20, 5, 10, 8], 0.5, category_id=9, segmentation=mask_of((20, 5, 30, 13)), mask_score=0.4),
        result([20, 5, 10, 8], 0.49, segmentation=mask_of((20, 5, 30, 13))),
    ]
    found = labelled(results, pool, tmp_path)
    truth = read_back(found, tmp_path)
    assert [(record.id, record.file_name) for record in truth.images] == [(1, "a.jpg"), (2, "b/c.png")]
    assert all(record.path.is_file() for record in truth.images)
    assert truth.categories == CATEGORIES
    assert [one["score"] for one in found.content["annotations"]] == [0.5, 0.8]
    annotations = truth.annotations(2)
    assert annotations.boxes.tolist() == [[5, 5, 15, 13]]
    assert annotations.labels.tolist() == [0]
    assert annotations.masks.areas().tolist() == [48]
    assert truth.entries(2)[0]["area"] == 48
    assert not annotations.crowd.any()
    assert (found.per_class, found.without_mask) == ({"cup": 1, "bun": 1}, 0)
    assert (found.num_boxes, found.num_images, found.has_masks) == (2, 2, True)


def test_boxes_are_cut_to_their_images_and_without_area_left_out(pool: GroundTruth, tmp_path: Path) -> None:
    found = labelled([result([50, 35, 20, 20]), result([70, 5, 9, 9]), result([5, 5, 0, 9])], pool, tmp_path)
    assert read_back(found, tmp_path).annotations(1).boxes.tolist() == [[50, 35, 60, 40]]
    assert found.num_boxes == 1


def test_among_masks_a_box_without_one_is_left_out(pool: GroundTruth, tmp_path: Path) -> None:
    empty = dict(rle_ops.from_counts([HEIGHT * WIDTH], HEIGHT, WIDTH))
    results = [
        result([5, 5, 9, 9]),
        result([5, 5, 9, 9], segmentation=mask_of((5, 5, 14, 14))),
        result([25, 5, 9, 9], segmentation=empty),
    ]
    found = labelled(results, pool, tmp_path)
    assert (found.num_boxes, found.without_mask) == (1, 2)


def test_a_teacher_without_masks_labels_boxes(pool: GroundTruth, tmp_path: Path) -> None:
    found = labelled([result([5, 5, 9, 9]), result([25, 5, 9, 9], image_id=3)], pool, tmp_path)
    assert not found.has_masks
    assert found.num_boxes == 2
    assert read_back(found, tmp_path).entries(3)[0]["area"] == 81


@pytest.mark.parametrize("results", [[], [result([5, 5, 9, 9], 0.4)], [result([5, 5, 0, 9])]])
def test_nothing_that_could_be_learnt_is_said(results: list[dict[str, Any]], pool: GroundTruth, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pool: expected results of a score of at least 0\.5 with an area; got none"):
        labelled(results, pool, tmp_path)


def test_a_lower_bound_takes_more(pool: GroundTruth, tmp_path: Path) -> None:
    assert labelled([result([5, 5, 9, 9], 0.4)], pool, tmp_path, min_score=0.3).num_boxes == 1


def test_names_of_a_list_lead_back_to_its_files(images: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "e.jpg"
    Image.new("RGB", (WIDTH, HEIGHT)).save(elsewhere)
    (images / "list.txt").write_text(f"b/c.png\n{elsewhere}\n")
    listed = listed_dataset(images / "list.txt", read_image_list(images / "list.txt"), CATEGORIES)
    found = labelled([result([5, 5, 9, 9]), result([5, 5, 9, 9], image_id=2)], listed, tmp_path)
    assert all(record.path.is_file() for record in read_back(found, tmp_path).images)


def test_sizes_are_those_of_the_files(pool: GroundTruth) -> None:
    assert {(record.width, record.height) for record in pool.images} == {(WIDTH, HEIGHT)}


def test_a_broken_image_is_named(images: Path) -> None:
    (images / "z.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"z\.jpg: image: expected one of JPEG"):
        listed_dataset(images, read_image_list(images), CATEGORIES)
