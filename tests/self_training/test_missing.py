"""Objects without a label: which boxes of a teacher are taken for one, held against a plain double loop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tis_ray.formats import coco
from tis_ray.self_training.missing import Missing, find_missing

WIDTH, HEIGHT = 60, 40


def truth_of(folder: Path, annotations: list[dict[str, Any]], *, images: int = 2) -> coco.CocoDataset:
    content = {
        "images": [{"id": i + 1, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 7, "iscrowd": 0, **one}
            for i, one in enumerate(annotations, start=1)
        ],
        "categories": [{"id": 7, "name": "cup"}, {"id": 9, "name": "bun"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return coco.read(folder / "labels.json")


def result(bbox: list[float], score: float = 0.9, *, image_id: int = 1, category_id: int = 7) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def boxes_of(missing: Missing) -> dict[int, list[list[float]]]:
    return {image_id: boxes.tolist() for image_id, (boxes, _) in missing.found.items()}


LABEL = {"bbox": [0, 0, 10, 10]}


@pytest.mark.parametrize(
    ("bbox", "score", "taken"),
    [
        pytest.param([20, 0, 10, 10], 0.5, True, id="a believed box on its own"),
        pytest.param([20, 0, 10, 10], 0.49, False, id="a score below the bound"),
        pytest.param([0, 0, 10, 10], 0.9, False, id="a labelled object"),
        pytest.param([9, 0, 10, 10], 0.9, True, id="an overlap of 10 in 190"),
        pytest.param([0, 0, 10, 1], 0.9, False, id="an overlap of exactly a tenth"),
        pytest.param([58, 10, 10, 10], 0.9, True, id="reaches beyond the image"),
        pytest.param([70, 10, 10, 10], 0.9, False, id="outside of the image"),
        pytest.param([20, 10, 0, 10], 0.9, False, id="without area"),
    ],
)
def test_which_boxes_stand_for_missing_objects(bbox: list[float], score: float, taken: bool, tmp_path: Path) -> None:
    missing = find_missing([result(bbox, score)], truth_of(tmp_path, [LABEL]))
    assert missing.num_boxes == taken
    assert list(missing.found) == [1] * taken


def test_boxes_are_cut_to_their_image_and_keep_their_scores(tmp_path: Path) -> None:
    missing = find_missing([result([50, 35, 20, 20], 0.75)], truth_of(tmp_path, []))
    boxes, scores = missing.found[1]
    assert boxes.tolist() == [[50, 35, 60, 40]]
    assert boxes.dtype == np.float32
    assert scores == [0.75]


def test_labels_of_other_images_do_not_count(tmp_path: Path) -> None:
    missing = find_missing([result([0, 0, 10, 10], image_id=2)], truth_of(tmp_path, [LABEL]))
    assert boxes_of(missing) == {2: [[0, 0, 10, 10]]}


def test_a_crowd_is_no_labelled_object(tmp_path: Path) -> None:
    """Its box may span a street whose other side nobody looked at; what lies in it is ignored in any case."""
    crowd = {"bbox": [0, 0, 60, 40], "iscrowd": 1}
    assert boxes_of(find_missing([result([0, 0, 60, 40])], truth_of(tmp_path, [crowd]))) == {1: [[0, 0, 60, 40]]}


def test_of_boxes_of_one_object_the_best_stays_whatever_their_classes(tmp_path: Path) -> None:
    results = [
        result([20, 10, 10, 10], 0.6),
        result([20, 10, 10, 9], 0.8, category_id=9),
        result([25, 10, 10, 10], 0.7),  # overlaps the best by a third
    ]
    missing = find_missing(results, truth_of(tmp_path, []))
    assert boxes_of(missing) == {1: [[20, 10, 30, 19], [25, 10, 35, 20]]}
    assert missing.per_class == {"bun": 1, "cup": 1}


def test_a_box_of_a_labelled_object_hides_no_missing_one(tmp_path: Path) -> None:
    """The better box overlaps the label, so it is not missing; the other, beside the label, still is."""
    results = [result([5, 0, 20, 10], 0.9), result([10, 0, 20, 10], 0.6)]
    assert boxes_of(find_missing(results, truth_of(tmp_path, [LABEL]))) == {1: [[10, 0, 30, 10]]}


def test_no_results_and_no_images(tmp_path: Path) -> None:
    assert find_missing([], truth_of(tmp_path, [LABEL])).num_boxes == 0
    assert find_missing([], truth_of(tmp_path, [], images=0)).found == {}


def overlap(a: list[float], b: list[float]) -> float:
    """Of boxes xyxy."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(wide, 0) * max(high, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


@pytest.mark.parametrize(("min_score", "max_overlap", "same_iou"), [(0.5, 0.1, 0.5), (0.3, 0.4, 0.2), (0, 0, 1)])
def test_the_plain_double_loop_says_the_same(
    min_score: float, max_overlap: float, same_iou: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)

    def bboxes(count: int) -> list[list[int]]:
        return [[*map(int, rng.integers(0, 30, 2)), *map(int, rng.integers(1, 10, 2))] for _ in range(count)]

    truth = truth_of(tmp_path, [{"bbox": bbox, "image_id": 1 + i % 2} for i, bbox in enumerate(bboxes(6))])
    results = [result(bbox, rng.random(), image_id=1 + i % 2) for i, bbox in enumerate(bboxes(120))]
    expected: dict[int, list[list[float]]] = {}
    for image_id in (1, 2):
        labelled = [xyxy(one["bbox"]) for one in truth.entries(image_id)]
        for one in sorted(results, key=lambda one: -one["score"]):
            box = xyxy(one["bbox"])
            if one["image_id"] != image_id or one["score"] < min_score:
                continue
            if any(overlap(box, other) >= max(max_overlap, 1e-9) for other in labelled):
                continue
            if all(overlap(box, other) <= same_iou for other in expected.get(image_id, [])):
                expected.setdefault(image_id, []).append(box)
    found = find_missing(results, truth, min_score=min_score, max_overlap=max_overlap, same_iou=same_iou)
    assert boxes_of(found) == expected
    assert 0 < found.num_boxes < 120


def xyxy(bbox: list[float]) -> list[float]:
    x, y, width, height = bbox
    return [float(x), float(y), float(x + width), float(y + height)]
