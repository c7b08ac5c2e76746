"""IoU and what covers a box, against arithmetic written out and torchvision."""

import tracemalloc

import numpy as np
import pytest
import torch
import torchvision

from tis_ray.ops.overlaps import is_covered, pairwise_iou


def random_boxes(rng, count, *, extent=100.0, side=40.0):
    corners = rng.uniform(0, extent, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(0.1, side, (count, 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([0, 0, 10, 10], [0, 0, 10, 8], 0.8, id="inside"),
        pytest.param([0, 0, 10, 10], [5, 5, 15, 15], 25 / 175, id="corner"),
        pytest.param([0, 0, 10, 10], [10, 0, 20, 10], 0.0, id="touching"),
        pytest.param([0, 0, 10, 10], [40, 40, 50, 50], 0.0, id="apart"),
        pytest.param([3, 3, 3, 3], [3, 3, 3, 3], 0.0, id="two points"),
        pytest.param([0, 0, 10, 10], [0, 5, 10, 5], 0.0, id="box and line"),
    ],
)
def test_iou_of_two_boxes(a, b, expected):
    iou = pairwise_iou(np.array([a], np.float32), np.array([b], np.float32))
    assert iou.dtype == np.float32
    assert iou[0, 0] == np.float32(expected)


def test_pairwise_iou_equals_torchvision():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 40), random_boxes(rng, 30)
    expected = torchvision.ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(pairwise_iou(a, b), expected, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_pairwise_iou_of_no_boxes(n, m):
    assert pairwise_iou(np.zeros((n, 4), np.float32), np.zeros((m, 4), np.float32)).shape == (n, m)


def test_pairwise_iou_reads_a_transposed_view():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8]], np.float32)
    np.testing.assert_array_equal(pairwise_iou(np.asfortranarray(boxes), boxes[::-1]), np.float32([[0.8, 1], [1, 0.8]]))


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_covered_boxes_are_those_of_a_brute_force(share):
    rng = np.random.default_rng(2)
    boxes, others = (np.round(random_boxes(rng, count, side=60)) for count in (80, 60))
    groups, other_groups = (rng.integers(0, 3, count).astype(np.int32) for count in (80, 60))
    parts, other_parts = (rng.integers(0, 4, count) for count in (80, 60))
    expected = []
    for (x1, y1, x2, y2), group, part in zip(boxes.tolist(), groups, parts, strict=True):
        wide = np.minimum(x2, others[:, 2]) - np.maximum(x1, others[:, 0])
        high = np.minimum(y2, others[:, 3]) - np.maximum(y1, others[:, 1])
        over = (wide > 0) & (high > 0) & (wide * high >= share * (x2 - x1) * (y2 - y1))
        expected.append(bool((over & (other_groups == group) & (other_parts != part)).any()))
    assert 0 < sum(expected) < 80
    found = is_covered(boxes, groups, parts, others, other_groups, other_parts, share=share)
    assert found.tolist() == expected


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_is_covered_where_there_are_no_boxes(n, m):
    none = [
        (np.zeros((count, 4), np.float32), np.zeros(count, np.int32), np.zeros(count, np.int64)) for count in (n, m)
    ]
    assert is_covered(*none[0], *none[1], share=0.5).tolist() == [False] * n


def test_what_covers_thousands_of_boxes_is_found_without_a_matrix():
    rng = np.random.default_rng(3)
    one = random_boxes(rng, 4000), np.zeros(4000, np.int32), np.zeros(4000, np.int64)
    other = random_boxes(rng, 4000), np.zeros(4000, np.int32), np.ones(4000, np.int64)
    is_covered(*(array[:1] for array in (*one, *other)), share=0.5)  # compiled
    tracemalloc.start()
    is_covered(*one, *other, share=0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # a matrix of booleans alone has 16 million
