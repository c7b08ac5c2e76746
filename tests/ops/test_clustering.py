"""Clusters around moving means and around fixed heads, against a brute force that looks at every cluster."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.ops.clustering import around_heads, around_means

ROWS = st.lists(
    st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.integers(0, 2)), max_size=30
)
WAYS = pytest.mark.parametrize("gather", [around_means, around_heads])


def ious_of(box, others):
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros(len(others)), where=shared > 0)


def slow_clusters(boxes, scores, threshold, moving):
    """[position of head, box, weight] of each cluster of one group, and the head of each box."""
    boxes, scores, heads, places, weights, sums = boxes.astype(float), scores.astype(float), [], [], [], []
    head_of = np.empty(len(boxes), int)
    for i in np.argsort(-scores, kind="stable"):
        ious = ious_of(boxes[i], np.array(places).reshape(-1, 4))
        k = int(ious.argmax()) if len(ious) else -1
        if k < 0 or not ious[k] > threshold:
            k, ious = len(heads), np.ones(len(heads) + 1)
            heads, places, weights, sums = [*heads, i], [*places, boxes[i]], [*weights, 0.0], [*sums, np.zeros(4)]
        weight = scores[i] * (1 if moving else ious[k])
        weights[k], sums[k], head_of[i] = weights[k] + weight, sums[k] + weight * boxes[i], heads[k]
        if moving and weights[k] > 0 and heads[k] != i:
            places[k] = sums[k] / weights[k]
    means = [sum_ / weight if weight > 0 else place for place, sum_, weight in zip(places, sums, weights, strict=True)]
    return heads, np.array(means).reshape(-1, 4), np.array(weights), head_of


def compare(gather, boxes, scores, groups, threshold):
    found = gather(boxes, scores, groups, iou_threshold=threshold)
    assert (found.boxes.dtype, found.heads.dtype, found.members.dtype) == (np.float32, np.int64, np.int64)
    heads = []
    for group in np.unique(groups):
        where = np.flatnonzero(groups == group)
        chosen, means, weights, head_of = slow_clusters(boxes[where], scores[where], threshold, gather is around_means)
        mine = slice(len(heads), len(heads) + len(chosen))
        np.testing.assert_array_equal(found.heads[found.members[where]], where[head_of])
        np.testing.assert_array_equal(found.heads[mine], where[chosen])
        np.testing.assert_array_equal(found.boxes[mine], means.astype(np.float32))
        np.testing.assert_allclose(found.weights[mine], weights, rtol=1e-12)
        heads.extend(where[chosen])
    assert len(found) == len(heads)
    return found


def instances_of(rows):
    """From (x, y, width, height, score, group) rows; sides may be 0, and duplicates and ties are likely."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return boxes, table[:, 4].copy(), table[:, 5].astype(np.int32)


def crowd(seed, count=700, *, sides=(2, 300), extent=1500.0, offset=0.0):
    """Distinct objects of uneven sizes and shapes, and three jittered duplicates of some."""
    rng = np.random.default_rng(seed)
    wh = np.exp(rng.uniform(*np.log(sides), (count // 2, 2)))
    corners = rng.uniform(0, extent, (count // 2, 2)) + offset
    objects = np.c_[corners, corners + wh]
    again = rng.integers(0, count // 8, count - len(objects))
    jittered = objects[again] + rng.normal(0, 0.08, (len(again), 4)) * wh[again][:, [0, 1, 0, 1]]
    boxes = np.concatenate([objects, jittered])[rng.permutation(count)].astype(np.float32)
    return boxes, rng.uniform(0, 1, count).astype(np.float32), rng.integers(0, 2, count).astype(np.int32)


@WAYS
@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([0.0, 0.25, 0.5, 0.55, 0.75, 1.0]))
def test_equals_brute_force_with_ties_duplicates_flat_boxes_and_scores_of_zero(gather, rows, threshold):
    compare(gather, *instances_of(rows), threshold)


@WAYS
@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.2, 0.45, 0.5, 0.55, 0.8, 0.99, 1.0])
def test_equals_brute_force_on_many_boxes_of_uneven_sizes(gather, threshold):
    compare(gather, *crowd(1), threshold)


@WAYS
@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"offset": -900.0}, id="on both sides of 0"),
        pytest.param({"offset": 30000.0, "sides": (0.1, 3), "extent": 40}, id="small ones far out"),
        pytest.param({"sides": (1, 1.5), "extent": 25}, id="one size, crowded"),
        pytest.param({"sides": (0.5, 2000), "extent": 300}, id="all overlap"),
    ],
)
def test_equals_brute_force_wherever_boxes_lie(gather, case):
    compare(gather, *crowd(2, **case), 0.55)


@WAYS
@pytest.mark.parametrize("threshold", [0.0, 1e-320, 1e-7])
def test_any_overlap_counts_at_thresholds_near_0_also_below_a_pixel(gather, threshold):
    compare(gather, *crowd(4, sides=(0.02, 1), extent=6), threshold)


@WAYS
def test_equals_brute_force_on_whole_pixels_with_many_ties(gather):
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 30, (900, 2))
    boxes = np.c_[corners, corners + rng.integers(0, 7, (900, 2))].astype(np.float32)
    scores = rng.choice([0.0, 0.25, 0.5, 1.0], 900).astype(np.float32)
    found = compare(gather, boxes, scores, np.zeros(900, np.int32), 0.5)
    assert 100 < len(found) < 900


def test_a_mean_that_travels_is_found_where_it_has_come_to():
    # More and more boxes pull the mean from x 94 over 128, the border of cells of this size, to more than 140.
    lefts = np.repeat([94, 108, 123, 136, 150], [3, 12, 48, 192, 1])
    travelling = np.c_[lefts, 0 * lefts, lefts + 64, 0 * lefts + 64].astype(np.float32)
    others = np.array([[x, 500, x + 3, 503] for x in range(0, 1000, 10)], np.float32)  # they make the grid worthwhile
    scores = np.concatenate([np.full(len(others), 0.99), np.linspace(0.9, 0.8, len(lefts))]).astype(np.float32)
    zeros = np.zeros(len(scores), np.int32)
    for shift in range(0, 128, 8):
        boxes = np.concatenate([others, travelling + np.float32([shift, 0, shift, 0])])
        assert len(compare(around_means, boxes, scores, zeros, 0.55)) == len(others) + 1


@WAYS
@pytest.mark.parametrize("axis", [0, 1])
def test_a_box_is_found_as_far_off_as_its_iou_allows(gather, axis):
    # Sides just below 16 are the largest of their cells, which may end between two boxes with an IoU of 0.55.
    side, lefts = 15.99, np.arange(0, 16000, 40.03)
    objects = np.zeros((len(lefts), 4))
    objects[:, axis] = lefts
    objects[:, 2:] = objects[:, :2] + side
    again = objects.copy()
    again[:, [axis, axis + 2]] += np.where(np.arange(len(lefts)) % 2, 1, -1)[:, None] * (side * 0.45 / 1.55 - 0.01)
    boxes = np.concatenate([objects, again]).astype(np.float32)
    scores = np.linspace(0.9, 0.1, len(boxes)).astype(np.float32)
    assert len(gather(boxes, scores, np.zeros(len(boxes), np.int32), iou_threshold=0.55)) == len(objects)


@WAYS
def test_groups_do_not_see_each_other(gather):
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    scores = np.float32([0.5, 0.9, 0.7])
    assert gather(boxes, scores, np.int32([4, 1202, 4]), iou_threshold=0.5).heads.tolist() == [2, 1]
    assert gather(boxes, scores, np.int32([0, 0, 0]), iou_threshold=0.5).heads.tolist() == [1]


@WAYS
def test_an_iou_that_equals_the_threshold_opens_a_cluster(gather):
    boxes, scores = np.array([[0, 0, 10, 10], [0, 0, 10, 8]], np.float32), np.float32([0.9, 0.8])
    assert len(gather(boxes, scores, np.zeros(2, np.int32), iou_threshold=0.8)) == 2
    assert len(gather(boxes, scores, np.zeros(2, np.int32), iou_threshold=0.79)) == 1


@WAYS
def test_of_equal_ious_the_cluster_opened_first_is_joined(gather):
    boxes = np.array([[4, 0, 14, 10], [0, 0, 10, 10], [2, 0, 12, 10]], np.float32)
    found = gather(boxes, np.float32([0.8, 0.9, 0.5]), np.zeros(3, np.int32), iou_threshold=0.5)
    assert found.heads[found.members].tolist() == [0, 1, 1]


@WAYS
def test_no_boxes(gather):
    found = gather(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), iou_threshold=0.5)
    assert (len(found), found.boxes.shape, found.members.shape) == (0, (0, 4), (0,))
    assert found.best_among(np.zeros(0, bool)).shape == (0,)


@WAYS
def test_many_boxes_that_all_overlap_need_no_matrix(gather):
    rng = np.random.default_rng(0)
    count = 300_000  # a matrix of bits would take 11 GB
    boxes = (np.array([100, 100, 200, 200]) + rng.uniform(-1, 1, (count, 4))).astype(np.float32)
    found = gather(boxes, rng.uniform(0, 1, count).astype(np.float32), np.zeros(count, np.int32), iou_threshold=0.5)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes, [[100, 100, 200, 200]], atol=0.02)


def test_best_among_goes_by_score_then_position_and_falls_back_on_the_head():
    boxes = np.array([[0, 0, 10, 10]] * 4 + [[50, 50, 60, 60]] * 2, np.float32)
    found = around_means(boxes, np.float32([0.2, 0.4, 0.9, 0.4, 0.3, 0.6]), np.zeros(6, np.int32), iou_threshold=0.5)
    assert found.heads.tolist() == [2, 5]
    assert found.best_among(np.array([True, True, False, True, True, False])).tolist() == [1, 4]
    assert found.best_among(np.array([True, False, False, False, False, True])).tolist() == [0, 5]
    assert found.best_among(np.zeros(6, bool)).tolist() == [2, 5]
