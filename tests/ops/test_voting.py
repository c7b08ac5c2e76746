"""The best match from each source, against a brute force. Voting itself is tested by its rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.ops.voting import best_of_each_source

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


def test_a_source_without_boxes_has_no_match():
    box, zero = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int32)
    found = best_of_each_source(box, zero, box, zero, zero + 1, num_sources=3, iou_threshold=0.5)
    assert found.tolist() == [[-1, 0, -1]]


def test_no_boxes_and_an_empty_pool():
    box, zero = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int32)
    options = {"num_sources": 2, "iou_threshold": 0.5}
    assert best_of_each_source(box[:0], zero[:0], box, zero, zero, **options).shape == (0, 2)
    assert best_of_each_source(box, zero, box[:0], zero[:0], zero[:0], **options).tolist() == [[-1, -1]]
