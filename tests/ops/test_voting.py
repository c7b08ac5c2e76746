"""Votes and the best match from each source, against plain loops over every pair; votes to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.generate import all_overlapping, growing, views_of_boxes
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.ops.voting import best_of_each_source, vote

ROWS = st.lists(
    st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(0, 6)] * 2, st.integers(0, 1), st.integers(0, 2)), max_size=24
)


def slow_best(boxes, groups, pool_boxes, pool_groups, pool_sources, num_sources, threshold):
    best = np.full((len(boxes), num_sources), -1)
    for i, row in enumerate(pairwise_iou(boxes, pool_boxes)):
        for source in range(num_sources):
            able = (pool_groups == groups[i]) & (pool_sources == source) & (row >= np.float32(threshold))
            if able.any():
                best[i, source] = np.flatnonzero(able & (row == row[able].max()))[0]
    return best


def slow_vote(boxes, groups, pool_boxes, pool_scores, pool_groups, threshold):
    """The mean of each box's voters, added up one by one from the left, and of their scores."""
    moved, means = boxes.copy(), np.full(len(boxes), np.nan, np.float32)
    pool, scores = pool_boxes.astype(np.float64), pool_scores.astype(np.float64)
    from_left = np.argsort(pool_boxes[:, 0], kind="stable")
    for i, box in enumerate(boxes.astype(np.float64)):
        width = np.minimum(box[2], pool[:, 2]) - np.maximum(box[0], pool[:, 0])
        height = np.minimum(box[3], pool[:, 3]) - np.maximum(box[1], pool[:, 1])
        shared = np.where((width > 0) & (height > 0), width * height, 0)
        area, areas = ((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (box, pool))
        able = (shared > 0) & (pool_groups == groups[i])
        able[able] = shared[able] / (area + areas - shared)[able] >= threshold
        voters = from_left[able[from_left]]
        total, mean = 0.0, np.zeros(4)
        for j in voters:
            total, mean = total + scores[j], mean + scores[j] * pool[j]
        if total > 0:
            moved[i], means[i] = mean / total, total / len(voters)
    return moved, means


def about_the_origin(count=40):
    """Boxes in pairs whose left and upper edges cancel out, so that the order of adding up shows in the mean."""
    rng = np.random.default_rng(0)
    edges = rng.uniform(0.1, 1, (count // 2, 2))
    corners = np.concatenate([edges, -edges])[rng.permutation(count)]
    boxes = np.concatenate([corners, np.full((count, 2), 100)], axis=1).astype(np.float32)
    return boxes, np.full(count, 0.7, np.float32), np.zeros(count, np.int32), np.zeros(count, np.int32)


def compare_votes(boxes, groups, pool_boxes, pool_scores, pool_groups, threshold):
    moved, means = vote(boxes, groups, pool_boxes, pool_scores, pool_groups, iou_threshold=threshold)
    assert moved.dtype == means.dtype == np.float32
    expected_moved, expected_means = slow_vote(boxes, groups, pool_boxes, pool_scores, pool_groups, threshold)
    np.testing.assert_array_equal(moved, expected_moved)
    np.testing.assert_array_equal(means, expected_means)


def compare(pool_boxes, groups, sources, queries, threshold):
    found = best_of_each_source(
        pool_boxes[queries],
        groups[queries],
        pool_boxes,
        groups,
        sources,
        num_sources=4,
        iou_threshold=threshold,
    )
    expected = slow_best(pool_boxes[queries], groups[queries], pool_boxes, groups, sources, 4, threshold)
    np.testing.assert_array_equal(found, expected)


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0]))
def test_equals_brute_force_with_ties_duplicates_and_flat_boxes(rows, threshold):
    table = np.array(rows, dtype=np.int32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1).astype(np.float32)
    compare(boxes, table[:, 4], table[:, 5], slice(None, None, 2), threshold)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_equals_brute_force_on_many_boxes_of_uneven_sizes(threshold):
    rng = np.random.default_rng(1)
    sides = np.exp(rng.uniform(0, 6, (300, 2)))
    corners = rng.uniform(0, 500, (300, 2)) - sides / 2
    objects = np.c_[corners, corners + sides]
    boxes = np.concatenate([objects + rng.normal(0, 0.05, (300, 4)) * sides[:, [0, 1, 0, 1]] for _ in range(4)])
    groups = np.tile(rng.integers(0, 2, 300), 4).astype(np.int32)
    compare(boxes.astype(np.float32), groups, rng.integers(0, 4, 1200).astype(np.int32), slice(0, 300), threshold)


@pytest.mark.parametrize(("part", "whole"), [(7, 25), (14, 25), (15, 29), (29, 35)])
def test_an_iou_of_the_threshold_itself_is_found_though_rounding_puts_it_out_of_reach(part, whole):
    assert part / whole * whole > part  # what a search may ask the smaller box to reach
    boxes, group = np.array([[0, 0, whole, 1], [0, 0, part, 1]], dtype=np.float32), np.zeros(1, np.int32)
    found = best_of_each_source(boxes[:1], group, boxes[1:], group, group, num_sources=1, iou_threshold=part / whole)
    assert found.tolist() == [[0]]


def test_a_source_without_boxes_has_no_match():
    box, zero = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int32)
    found = best_of_each_source(box, zero, box, zero, zero + 1, num_sources=3, iou_threshold=0.5)
    assert found.tolist() == [[-1, 0, -1]]


def test_no_boxes_and_an_empty_pool():
    box, zero = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int32)
    options = {"num_sources": 2, "iou_threshold": 0.5}
    assert best_of_each_source(box[:0], zero[:0], box, zero, zero, **options).shape == (0, 2)
    assert best_of_each_source(box, zero, box[:0], zero[:0], zero[:0], **options).tolist() == [[-1, -1]]


@settings(deadline=None, max_examples=100)
@given(ROWS, st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0]))
def test_votes_equal_a_plain_loop_with_ties_duplicates_and_flat_boxes(rows, threshold):
    table = np.array(rows, dtype=np.int32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1).astype(np.float32)
    scores = (np.arange(len(boxes)) % 5 / 7).astype(np.float32)
    compare_votes(boxes[::2], table[::2, 4], boxes, scores, table[:, 4], threshold)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "detections",
    [
        pytest.param(views_of_boxes(20, 800, 1), id="one class"),
        pytest.param(views_of_boxes(20, 800, 1203), id="1203 classes"),
        pytest.param(growing(800, num_classes=7), id="any density"),
        pytest.param(all_overlapping(200), id="all overlap"),
        pytest.param(about_the_origin(), id="sums that cancel out"),
    ],
)
def test_votes_equal_a_plain_loop_to_the_last_bit(detections, threshold):
    boxes, scores, labels, _ = detections
    compare_votes(boxes[::3], labels[::3], boxes, scores, labels, threshold)


@pytest.mark.parametrize(
    "detections",
    [
        pytest.param(views_of_boxes(20, 800, 3), id="views of a frame"),
        pytest.param(about_the_origin(), id="sums that cancel out"),
    ],
)
def test_votes_do_not_depend_on_the_order_of_the_pool(detections):
    boxes, scores, labels, _ = detections
    assert len(np.unique(boxes[:, 0])) == len(boxes)  # voters are added up from the left
    shuffled = np.random.default_rng(0).permutation(len(boxes))
    expected = vote(boxes[:99], labels[:99], boxes, scores, labels, iou_threshold=0.5)
    found = vote(boxes[:99], labels[:99], boxes[shuffled], scores[shuffled], labels[shuffled], iou_threshold=0.5)
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)
