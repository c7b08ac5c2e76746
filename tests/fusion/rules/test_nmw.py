"""Non-maximum weighted: a known answer, a brute force, ensemble-boxes, and whose class, view and mask a box has."""

import ensemble_boxes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.box_rows import instances_of, iou_of
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import nmw
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks

TWO_MODELS = Instances.of(  # in thousandths of the image
    [[100, 100, 500, 500], [600, 600, 900, 900], [120, 100, 520, 500]], [0.9, 0.4, 0.6], [0] * 3, source=[0, 0, 1]
)
ROWS = st.lists(
    st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.integers(0, 2)), max_size=24
)
DISTINCT_ROWS = st.lists(
    st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(3, 20)] * 2, st.integers(1, 99), st.integers(0, 1)),
    max_size=20,
    unique_by=lambda row: row[4],
)


def merge(instances, **options):
    return nmw.merge(instances, Pool.of(instances), **options)


def slow_nmw(instances, threshold):
    """(position of the head, box) of each cluster by descending score."""
    boxes, scores, clusters = instances.boxes.tolist(), instances.scores.tolist(), {}
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        ious = {
            head: iou_of(boxes[i], boxes[head]) for head in clusters if instances.labels[head] == instances.labels[i]
        }
        head = max(ious, key=ious.get, default=i)
        if ious and ious[head] > threshold:
            clusters[head].append((scores[i] * ious[head], boxes[i]))
        else:
            clusters[i] = [(scores[i], boxes[i])]
    return [
        (
            head,
            np.average([box for _, box in shares], axis=0, weights=[w for w, _ in shares])
            if scores[head]
            else boxes[head],
        )
        for head, shares in sorted(clusters.items(), key=lambda item: (-scores[item[0]], item[0]))
    ]


def test_known_answer():
    fused = merge(TWO_MODELS)
    np.testing.assert_allclose(fused.boxes, [[107.525, 100, 507.525, 500], [600, 600, 900, 900]], atol=1e-3)
    assert fused.scores.tolist() == pytest.approx([0.9, 0.4])


def test_a_box_joins_the_head_it_overlaps_most_and_not_the_best():
    boxes = [
        [0, 0, 10, 10],
        [4, 0, 14, 10],
        [3, 0, 13, 10],
    ]  # IoU of the third: .54 with the first, .82 with the second
    fused = merge(Instances.of(boxes, [0.9, 0.8, 0.7], [0] * 3), iou_threshold=0.5)
    assert fused.boxes[0].tolist() == boxes[0]
    assert 3 < fused.boxes[1, 0] < 4


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([0.0, 0.25, 0.55, 0.75, 1.0]))
def test_equals_brute_force_with_ties_duplicates_flat_boxes_and_scores_of_zero(rows, threshold):
    instances = instances_of(rows)
    fused = merge(instances, iou_threshold=threshold)
    expected = slow_nmw(instances, threshold)
    heads = [head for head, _ in expected]
    np.testing.assert_array_equal(fused.source, heads)
    np.testing.assert_array_equal(fused.labels, instances.labels[heads])
    np.testing.assert_array_equal(fused.scores, instances.scores[heads])
    np.testing.assert_allclose(fused.boxes, np.reshape([box for _, box in expected], (-1, 4)), atol=1e-5)


def peers_answer(instances, threshold):
    """ensemble-boxes' labels, scores and boxes of one view, of distinct scores: by descending score."""
    lists = ([array.tolist()] for array in (instances.boxes / np.float32(64), instances.scores, instances.labels))
    boxes, scores, labels = ensemble_boxes.non_maximum_weighted(*lists, iou_thr=threshold)
    return np.c_[labels, scores, boxes * 64]


@settings(deadline=None, max_examples=150)
@given(DISTINCT_ROWS, st.sampled_from([0.3, 0.55, 0.7]))
def test_equals_ensemble_boxes(rows, threshold):
    instances = instances_of([(*row[:4], row[4] / 100, row[5]) for row in rows])
    overlaps = [iou_of(a, b) for a in instances.boxes.tolist() for b in instances.boxes.tolist()]
    assume(not any(0 < abs(iou - threshold) < 1e-6 for iou in overlaps))
    fused = merge(instances, iou_threshold=threshold)
    mine = np.c_[fused.labels, fused.scores, fused.boxes]
    np.testing.assert_allclose(mine, peers_answer(instances, threshold), atol=1e-4)


@pytest.mark.parametrize("classes", [1, 7, 1203])
def test_equals_ensemble_boxes_on_many_objects(classes):
    rng = np.random.default_rng(0)
    corners, wh = rng.integers(0, 400, (60, 2)) / 8, rng.integers(10, 90, (60, 2)) / 8
    objects = rng.integers(0, 60, 300)
    where = np.c_[corners, wh][objects] * (1 + rng.integers(-20, 20, (300, 4)) / 300)
    scores = rng.permutation(300) / 301 + 0.001
    instances = instances_of(np.c_[where * 0.9, scores, (objects * 31) % classes])
    fused = merge(instances)
    assert 60 < len(fused) < 150
    mine = np.c_[fused.labels, fused.scores, fused.boxes]
    np.testing.assert_allclose(mine, peers_answer(instances, 0.55), atol=1e-4)


def test_class_agnostic_takes_the_class_and_view_of_the_best_box():
    instances = Instances.of([[0, 0, 10, 10], [0, 0, 10, 9]], [0.5, 0.8], [3, 1202], source=[0, 1])
    fused = merge(instances, class_agnostic=True)
    assert (fused.labels.tolist(), fused.source.tolist()) == ([1202], [1])
    assert len(merge(instances)) == 2


@pytest.mark.parametrize(
    ("present", "taken"),
    [([True] * 3, 1), ([True, False, True], 2), ([True, False, False], 0), ([False] * 3, None)],
    ids=["the best", "the next best", "the only one", "none"],
)
def test_the_mask_is_that_of_the_best_box_that_has_one(present, taken):
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 10]], np.float32)
    masks = BoxMasks(boxes, np.zeros((3, 2, 2), np.float16), np.array(present))
    fused = merge(Instances.of(boxes, [0.3, 0.9, 0.5], [0] * 3, masks, source=[0, 1, 2]))
    assert fused.source.tolist() == [1]
    assert fused.masks.present.tolist() == [taken is not None]
    if taken is not None:
        np.testing.assert_array_equal(fused.masks.boxes, boxes[[taken]])
