"""Hard suppression: known answers, a brute force and what must hold for any boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import nms
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.ops.overlaps import pairwise_iou

NESTED = [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [20, 20, 30, 30]]  # IoU 01 .8, 02 .4, 12 .5
THREE_CLASSES = st.lists(
    st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(0, 2)), max_size=25
)


def merge(instances, **options):
    return nms.merge(instances, Pool.of(instances), **options)


def instances_of(rows):
    """From (x, y, width, height, score, label) rows; sides may be 0, and duplicates and ties are likely."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Instances.of(boxes, table[:, 4], table[:, 5], source=np.arange(len(table)))


def slow_nms(instances, iou_threshold):
    """Positions kept: every box against every kept one before it, best first."""
    kept = []
    for i in sorted(range(len(instances)), key=lambda i: (-instances.scores[i], i)):
        ious = [pairwise_iou(instances.boxes[[i]], instances.boxes[[j]])[0, 0] for j in kept]
        same = [instances.labels[i] == instances.labels[j] for j in kept]
        if not any(iou > iou_threshold and match for iou, match in zip(ious, same, strict=True)):
            kept.append(i)
    return kept


@pytest.mark.parametrize(
    ("iou_threshold", "kept"),
    [
        pytest.param(0.3, [0.9, 0.3], id="drops all that overlap"),
        pytest.param(0.5, [0.9, 0.7, 0.3], id="a dropped box drops no other"),
        pytest.param(0.8, [0.9, 0.8, 0.7, 0.3], id="an IoU equal to the threshold stays"),
        pytest.param(1.0, [0.9, 0.8, 0.7, 0.3], id="keeps all at 1"),
    ],
)
def test_drops_boxes_above_the_threshold(iou_threshold, kept):
    instances = Instances.of(NESTED, [0.9, 0.8, 0.7, 0.3], [0] * 4)
    assert merge(instances, iou_threshold=iou_threshold).scores.tolist() == pytest.approx(kept)


def test_keeps_the_first_of_a_tie():
    instances = Instances.of([[0, 0, 10, 10]] * 3, [0.5, 0.5, 0.5], [0] * 3, source=[4, 2, 7])
    assert merge(instances).source.tolist() == [4]


def test_classes_do_not_see_each_other_unless_asked():
    instances = Instances.of([[0, 0, 10, 10]] * 2, [0.5, 0.9], [0, 1])
    assert merge(instances).labels.tolist() == [1, 0]
    assert merge(instances, class_agnostic=True).labels.tolist() == [1]


def test_carries_masks_and_source_of_what_it_keeps():
    patches = np.arange(4, dtype=np.float16)[:, None, None] * np.ones((4, 2, 2), np.float16)
    masks = BoxMasks(np.array(NESTED, np.float32), patches)
    merged = merge(Instances.of(NESTED, [0.3, 0.8, 0.7, 0.9], [0] * 4, masks, source=[0, 1, 2, 3]))
    assert merged.source.tolist() == [3, 1, 2]
    assert merged.masks.probabilities[:, 0, 0].tolist() == [3, 1, 2]


@settings(deadline=None, max_examples=150)
@given(THREE_CLASSES, st.sampled_from([0.0, 0.3, 0.5, 0.75]))
def test_equals_brute_force_with_ties_duplicates_and_flat_boxes(rows, iou_threshold):
    instances = instances_of(rows)
    merged = merge(instances, iou_threshold=iou_threshold)
    assert merged.source.tolist() == slow_nms(instances, iou_threshold)


@settings(deadline=None, max_examples=100)
@given(THREE_CLASSES)
def test_a_second_pass_changes_nothing(rows):
    once = merge(instances_of(rows))
    np.testing.assert_array_equal(merge(once).source, once.source)


def test_agrees_with_brute_force_over_1203_classes():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (300, 2))
    rows = np.c_[corners, rng.uniform(5, 20, (300, 2)), rng.uniform(0, 1, 300), rng.integers(0, 1203, 300)]
    rows[::3, 5] = 1202
    instances = instances_of(rows)
    assert merge(instances).source.tolist() == slow_nms(instances, 0.5)
