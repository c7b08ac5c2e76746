"""Soft-NMS: known answers of both decays, a brute force and what must hold for any boxes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.box_rows import instances_of, iou_of
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import soft_nms
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks

NESTED = [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [20, 20, 30, 30]]  # IoU 01 .8, 02 .4, 12 .5
ROWS = st.lists(
    st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.integers(0, 2)),
    max_size=20,
)


def merge(instances, **options):
    return soft_nms.merge(instances, Pool.of(instances), **options)


def slow_soft_nms(instances, decay, min_score=1e-4):
    """(position, decayed score) by descending score: take the best, decay the rest of its class, repeat."""
    boxes, scores = instances.boxes.tolist(), instances.scores.tolist()
    left, taken = [i for i in range(len(boxes)) if scores[i] >= min_score], []
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        taken.append((best, scores[best]))
        for i in left:
            if instances.labels[i] == instances.labels[best]:
                scores[i] *= decay(iou_of(boxes[best], boxes[i]))
        left = [i for i in left if scores[i] >= min_score]
    return sorted(taken, key=lambda pair: (-np.float32(pair[1]), pair[0]))


@pytest.mark.parametrize(
    ("options", "order", "scores"),
    [
        pytest.param({"iou_threshold": 0.3}, [0, 2, 3, 1], [0.9, 0.42, 0.3, 0.08], id="linear 0.3"),
        pytest.param({}, [0, 2, 3, 1], [0.9, 0.7, 0.3, 0.16], id="linear 0.5 leaves an IoU of 0.5 alone"),
        pytest.param({"method": "gaussian", "sigma": 0.5}, [0, 2, 3, 1], [0.9, 0.508304, 0.3, 0.134911], id="gaussian"),
        pytest.param({"iou_threshold": 0.3, "min_score": 0.1}, [0, 2, 3], [0.9, 0.42, 0.3], id="min_score"),
    ],
)
def test_known_answers(options, order, scores):
    merged = merge(Instances.of(NESTED, [0.9, 0.8, 0.7, 0.3], [0] * 4, source=range(4)), **options)
    assert merged.source.tolist() == order
    assert merged.scores.tolist() == pytest.approx(scores, abs=1e-6)


def test_chooses_by_decayed_score():
    # Once the first has pulled the second below the third, the third is chosen and decays the second again.
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 2, 10, 12]]
    merged = merge(Instances.of(boxes, [0.9, 0.8, 0.7], [0] * 3, source=range(3)), iou_threshold=0.5)
    third = 0.7 * (1 - 8 / 12)
    second = 0.8 * (1 - 0.9) * (1 - 7 / 12)
    assert merged.source.tolist() == [0, 2, 1]
    assert merged.scores.tolist() == pytest.approx([0.9, third, second], abs=1e-6)


def test_takes_the_first_of_a_tie():
    merged = merge(Instances.of([[0, 0, 10, 10], [0, 0, 10, 8]], [0.5, 0.5], [0, 0], source=[1, 0]))
    assert merged.source.tolist() == [1, 0]
    assert merged.scores.tolist() == pytest.approx([0.5, 0.1])


def test_classes_do_not_see_each_other_unless_asked():
    instances = Instances.of([[0, 0, 10, 10], [0, 0, 10, 8]], [0.5, 0.9], [0, 1])
    assert merge(instances).scores.tolist() == pytest.approx([0.9, 0.5])
    assert merge(instances, class_agnostic=True).scores.tolist() == pytest.approx([0.9, 0.1])


def test_a_score_equal_to_min_score_stays():
    apart = Instances.of([[0, 0, 1, 1], [5, 5, 6, 6]], [1e-4, 0.9e-4], [0, 0])
    assert merge(apart, min_score=1e-4).scores.tolist() == [np.float32(1e-4)]


def test_carries_masks_of_what_it_keeps():
    patches = np.arange(4, dtype=np.float16)[:, None, None] * np.ones((4, 2, 2), np.float16)
    masks = BoxMasks(np.array(NESTED, np.float32), patches)
    merged = merge(Instances.of(NESTED, [0.9, 0.8, 0.7, 0.3], [0] * 4, masks))
    assert merged.masks.probabilities[:, 0, 0].tolist() == [0, 2, 3, 1]


@settings(deadline=None, max_examples=100)
@given(ROWS, st.sampled_from([0.0, 0.3, 0.5]))
def test_linear_equals_brute_force(rows, threshold):
    instances = instances_of(rows)
    merged = merge(instances, iou_threshold=threshold)
    expected = slow_soft_nms(instances, lambda iou: 1 - iou if iou > threshold else 1.0)
    assert merged.source.tolist() == [position for position, _ in expected]
    np.testing.assert_allclose(merged.scores, [score for _, score in expected], rtol=1e-6)


@settings(deadline=None, max_examples=100)
@given(ROWS, st.sampled_from([0.1, 0.5]))
def test_gaussian_equals_brute_force(rows, sigma):
    instances = instances_of(rows)
    merged = merge(instances, method="gaussian", sigma=sigma)
    expected = slow_soft_nms(instances, lambda iou: math.exp(-iou * iou / sigma))
    assert merged.source.tolist() == [position for position, _ in expected]
    np.testing.assert_allclose(merged.scores, [score for _, score in expected], rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(ROWS, st.sampled_from(["linear", "gaussian"]))
def test_scores_never_rise(rows, method):
    instances = instances_of(rows)
    merged = merge(instances, method=method)
    assert (merged.scores <= instances.scores[merged.source]).all()
