"""All boxes of a pool that overlap a chosen one, against a brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.ops.neighbours import listed, overlapping
from tis_ray.ops.overlaps import pairwise_iou

ROWS = st.lists(st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(0, 6)] * 2, st.integers(0, 1)), max_size=24)


def slow(boxes, groups, pool_boxes, pool_groups, threshold):
    near = (pairwise_iou(boxes, pool_boxes) >= np.float32(threshold)) & (groups[:, None] == pool_groups)
    return [np.flatnonzero(row).tolist() for row in near]


def rows_of(found):
    return [[position for position in row if position >= 0] for row in found.tolist()]


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0]))
def test_equals_brute_force_with_ties_duplicates_and_flat_boxes(rows, threshold):
    table = np.array(rows, dtype=np.int32).reshape(-1, 5)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1).astype(np.float32)
    groups = table[:, 4]
    found = overlapping(boxes[::2], groups[::2], boxes, groups, iou_threshold=threshold)
    assert rows_of(found) == slow(boxes[::2], groups[::2], boxes, groups, threshold)


@pytest.mark.parametrize("count", [1, 400])
def test_more_pairs_than_there_are_boxes_are_all_listed(count):
    boxes = (np.tile([10.0, 10, 90, 90], (count, 1)) + np.random.default_rng(0).uniform(-1, 1, (count, 4))).astype("f4")
    groups = np.zeros(count, np.int32)
    found = overlapping(boxes, groups, boxes, groups, iou_threshold=0.5)
    np.testing.assert_array_equal(found, np.tile(np.arange(count), (count, 1)))


def test_rows_are_filled_up_with_minus_one():
    found = listed(np.array([2, 0, 2, 2]), np.array([9, 4, 1, 5]), count=4)
    assert found.tolist() == [[4, -1, -1], [-1, -1, -1], [1, 5, 9], [-1, -1, -1]]


def test_nothing_chosen_or_nothing_to_choose_from():
    none, box, zero = np.zeros((0, 4), np.float32), np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int32)
    assert overlapping(none, zero[:0], box, zero, iou_threshold=0.5).shape == (0, 0)
    assert overlapping(box, zero, none, zero[:0], iou_threshold=0.5).shape == (1, 0)
    assert overlapping(box, zero, box, zero + 1, iou_threshold=0.5).shape == (1, 0)
