"""Hits, misses and neither, against COCO's own matching and against ten lines of brute force."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tis_ray.evaluation.matching import match
from tis_ray.instances import Annotations, Instances
from tis_ray.masks import CropMasks


def truth_of(boxes, labels, crowd=None):
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    crops = [np.ones((1, 1), dtype=np.uint8)] * len(boxes)
    return Annotations(
        boxes,
        np.asarray(labels, dtype=np.int32),
        CropMasks(np.zeros((len(boxes), 2), dtype=np.int32), tuple(crops)),
        np.zeros(len(boxes), dtype=np.bool_) if crowd is None else np.asarray(crowd, dtype=np.bool_),
    )


def random_scene(seed, *, num_found=60, num_objects=15, classes=3):
    """Whole pixels in a small frame, so that ties and IoUs of exactly the threshold happen."""
    rng = np.random.default_rng(seed)

    def boxes(count):
        corners = rng.integers(0, 25, (count, 2))
        return np.concatenate([corners, corners + rng.integers(1, 15, (count, 2))], axis=1)

    objects = boxes(num_objects)
    found = boxes(num_found)
    near = rng.integers(0, num_objects, num_found // 2)
    found[: num_found // 2] = objects[near] + rng.integers(-1, 2, (num_found // 2, 4)) * [[0, 0, 1, 1]]
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    instances = Instances.of(found, rng.integers(1, 20, num_found) / 20, rng.integers(0, classes, num_found))
    return instances, truth_of(objects, rng.integers(0, classes, num_objects), rng.random(num_objects) < 0.4)


def pycocotools_matching(found, truth, iou):
    """1 hit, 0 miss, -1 neither, by COCOeval on one image."""

    def structure(boxes, labels, **columns):
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
        rows = [
            {"id": i + 1, "image_id": 1, "category_id": int(labels[i]) + 1, "bbox": xywh[i].tolist(), "area": 1.0}
            | {key: values[i].item() for key, values in columns.items()}
            for i in range(len(boxes))
        ]
        coco = COCO()
        coco.dataset = {"images": [{"id": 1}], "categories": [{"id": i} for i in (1, 2, 3)], "annotations": rows}
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(
            structure(truth.boxes, truth.labels, iscrowd=truth.crowd.astype(int)),
            structure(found.boxes, found.labels, score=found.scores, iscrowd=np.zeros(len(found), dtype=int)),
            "bbox",
        )
        evaluator.params.iouThrs = np.array([iou])
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [1000]
        evaluator.evaluate()
    outcome = np.zeros(len(found), dtype=int)
    for entry in filter(None, evaluator.evalImgs):
        for id_, matched, ignored in zip(entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0], strict=True):
            outcome[id_ - 1] = -1 if ignored else int(matched > 0)
    return outcome


def outcome_of(matches):
    return np.where(matches.counted, matches.hits.astype(int), -1)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_pycocotools(seed, iou):
    found, truth = random_scene(seed)
    expected = pycocotools_matching(found, truth, iou)
    np.testing.assert_array_equal(outcome_of(match(found, truth, iou=iou)), expected)


def test_the_scenes_have_hits_misses_and_neither():
    outcomes = np.concatenate([pycocotools_matching(*random_scene(seed), 0.5) for seed in range(8)])
    assert (np.unique(outcomes, return_counts=True)[1] > 10).all()
    assert set(outcomes) == {-1, 0, 1}


def brute_force(found, truth, iou):
    outcome, taken = np.zeros(len(found), dtype=int), set()
    for i in sorted(range(len(found)), key=lambda i: -found.scores[i]):
        best, chosen, ignored = iou, None, False
        for j in range(len(truth)):
            a, b = found.boxes[i].astype(float), truth.boxes[j].astype(float)
            width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            inter = max(width, 0) * max(height, 0)
            own, other = np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])
            same = truth.labels[j] == found.labels[i]
            if truth.crowd[j]:
                ignored |= bool((same or truth.labels[j] == -1) and inter / own >= iou)
            elif same and (found.source[i], j) not in taken and inter / (own + other - inter) >= best:
                best, chosen = inter / (own + other - inter), j
        taken.add((found.source[i], chosen))
        outcome[i] = 1 if chosen is not None else -int(ignored)
    return outcome


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_brute_force_on_several_views_and_regions_of_any_class(seed):
    found, truth = random_scene(seed, num_found=120)
    found = Instances.of(found.boxes, found.scores, found.labels, source=np.arange(120) % 3 * 5)
    truth = truth_of(
        truth.boxes, np.where(truth.crowd & (np.arange(len(truth)) % 2 == 0), -1, truth.labels), truth.crowd
    )
    np.testing.assert_array_equal(outcome_of(match(found, truth)), brute_force(found, truth, 0.5))


BOX = [10, 10, 20, 20]


def test_an_object_is_hit_once_by_each_view():
    found = Instances.of([BOX] * 4, [0.5, 0.9, 0.4, 0.3], [0] * 4, source=[0, 0, 1, 1])
    assert match(found, truth_of([BOX], [0])).hits.tolist() == [False, True, True, False]


def test_the_better_of_equals_is_the_first():
    found = Instances.of([BOX] * 2, [0.5, 0.5], [0, 0])
    assert match(found, truth_of([BOX], [0])).hits.tolist() == [True, False]


def test_another_class_is_a_miss():
    matches = match(Instances.of([BOX], [0.5], [1]), truth_of([BOX], [0]))
    assert outcome_of(matches).tolist() == [0]


def test_a_region_to_ignore_takes_misses_of_any_class_and_leaves_hits():
    found = Instances.of([BOX, [12, 12, 14, 14], [30, 30, 40, 40]], [0.5, 0.6, 0.7], [0, 2, 2])
    matches = match(found, truth_of([BOX, [0, 0, 25, 25]], [0, -1], [False, True]))
    assert outcome_of(matches).tolist() == [1, -1, 0]


@pytest.mark.parametrize(("num_found", "num_objects"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_found_or_nothing_there(num_found, num_objects):
    found = Instances.of([BOX] * num_found, [0.5] * num_found, [0] * num_found)
    truth = truth_of([BOX] * num_objects, [1] * num_objects)
    assert outcome_of(match(found, truth)).tolist() == [0] * num_found


def test_a_box_without_area_is_a_miss():
    matches = match(Instances.of([[10, 10, 10, 20]], [0.5], [0]), truth_of([BOX, BOX], [0, 0], [False, True]))
    assert outcome_of(matches).tolist() == [0]


def test_what_misses_in_a_class_that_nobody_looked_for_is_no_miss():
    truth = replace(truth_of([[0, 0, 10, 10]], [1]), unverified=np.array([False, True, True]))
    found = Instances.of(
        [[0, 0, 10, 10], [20, 20, 30, 30], [20, 20, 30, 30], [20, 20, 30, 30]], [0.9] * 4, [1, 1, 2, 0]
    )
    assert outcome_of(match(found, truth)).tolist() == [1, -1, -1, 0]
    assert outcome_of(match(Instances.empty(), truth)).tolist() == []
