"""The best anchor found by rounding is the best of all that are laid."""

import numpy as np
import pytest

from tis_ray.evaluation import anchor_recall
from tis_ray.evaluation.anchor_recall import AnchorLayout, best_ious, recall_by_size
from tis_ray.evaluation.anchor_table import recall_table, scales_line

SHAPES = (
    np.array([(-4.0, -4, 4, 4), (-5.7, -2.8, 5.7, 2.8), (-2.8, -5.7, 2.8, 5.7)]),
    np.array([(-16.0, -16, 16, 16), (-3.0, -8, 25, 9), (10.0, -200, 30, 200)]),  # centred or not
    np.array([(-128.0, -128, 128, 128)] * 3),
)
STRIDES = (4, 8, 64)


def laid(height, width, layout):
    """All anchors of a frame, one at a time."""
    anchors = []
    for shapes, stride in zip(layout.shapes, layout.strides, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        down, across = (height // rows, width // columns) if layout.spread else (stride, stride)
        for y in range(rows):
            for x in range(columns):
                anchors += [shape + np.array([x * across, y * down] * 2) for shape in shapes]
    return np.array(anchors)


def ious_of(box, anchors):
    sides = np.minimum(box[2:], anchors[:, 2:]) - np.maximum(box[:2], anchors[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (anchors[:, 2:] - anchors[:, :2]).prod(axis=1) - shared)


def objects(rng, height, width, count):
    """Boxes of all sizes and places, on the frame's borders too."""
    sides = np.minimum(rng.lognormal(2.5, 1.2, (count, 2)) + 0.2, (width, height))
    corner = np.clip(rng.uniform(-0.2, 1.2, (count, 2)), 0, 1) * ((width, height) - sides)
    return np.concatenate([corner, corner + sides], axis=1)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("block", [7, 1 << 15])
def test_equals_the_best_of_all_anchors(spread, block, monkeypatch):
    monkeypatch.setattr(anchor_recall, "_BLOCK", block)
    rng = np.random.default_rng(0)
    layout = AnchorLayout(SHAPES, STRIDES, spread)
    frames = [(32, 32), (96, 160), (96, 64)]
    boxes = [objects(rng, *frame, 60) for frame in frames]
    expected = [ious_of(box, anchors).max() for frame, own in zip(frames, boxes, strict=True)
                for anchors in [laid(*frame, layout)] for box in own]  # fmt: skip
    found = best_ious(np.concatenate(boxes), np.repeat(frames, 60, axis=0), layout)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(set(found.round(6))) > 100


def test_an_object_that_equals_an_anchor_has_iou_1():
    layout = AnchorLayout(SHAPES[:1], (4,))
    assert best_ious(np.array([(20.0, 8, 28, 16)]), np.array([(32, 32)]), layout).tolist() == [1]


def test_without_objects_there_are_no_ious():
    assert best_ious(np.zeros((0, 4)), np.zeros((0, 2), np.int64), AnchorLayout(SHAPES, STRIDES)).shape == (0,)


def test_sizes_fall_into_bins_that_begin_with_their_edges():
    sizes = np.array([7.9, 8, 15, 16, 300, 300])
    ious = np.array([0.2, 0.5, 0.4999, 0.9, 0.6, 1.0])
    recall = recall_by_size(sizes, ious, (8, 16, 32, 256))
    assert recall.counts.tolist() == [1, 2, 1, 0, 2]
    np.testing.assert_allclose(recall.recalls, [0, 0.5, 1, np.nan, 1])
    np.testing.assert_allclose(recall.mean_ious, [0.2, 0.49995, 0.9, np.nan, 0.8])


def test_without_edges_all_objects_are_one_bin():
    recall = recall_by_size(np.array([3.0, 400]), np.array([0.1, 0.7]), ())
    assert (recall.counts.tolist(), recall.recalls.tolist()) == ([2], [0.5])
    assert recall.mean_ious.tolist() == [pytest.approx(0.4)]


def test_the_table_has_a_row_for_each_bin_and_one_for_all():
    table = recall_table(np.array([8.0, 9, 300]), {"a": np.array([0.5, 0.1, 0.7]), "b": np.ones(3)})
    columns = [list(column.cells) for column in table.columns]
    sizes, counts, a, b = columns
    assert sizes == ["< 8", "8-16", "16-32", "32-64", "64-128", "128-256", ">= 256", "all"]
    assert counts == ["0", "2", "0", "0", "0", "0", "1", "3"]
    assert a == ["n/a", "50.0 0.30", *["n/a"] * 4, "100.0 0.70", "66.7 0.43"]
    assert b == ["n/a", "100.0 1.00", *["n/a"] * 4, "100.0 1.00", "100.0 1.00"]


def test_shares_count_the_objects_of_just_that_scale():
    line = scales_line(np.sqrt([16.0, 64, 1024, 4096, 10000]))
    assert line == (
        "F(8) = 40.0%, F(16) = 40.0%, F(32) = 60.0%, F(96) = 80.0%; smallest 4 px, largest 100 px"
    )  # fmt: skip
