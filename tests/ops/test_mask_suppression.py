"""Suppression by the IoU of masks: known answers, and a brute force on pycocotools' IoUs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tests.dense_masks import blobs, coco_rles, runs_of, small_masks
from tis_ray.ops.mask_suppression import mask_nms_keep, mask_soft_nms_gaussian, mask_soft_nms_linear
from tis_ray.ops.runs import Runs

THREE = Runs(1, 20, np.array([[0, 10], [0, 6], [8, 14]]), np.arange(4))  # IoU 01 .6, 02 1/7, 12 0
SCORES = np.float32([0.9, 0.8, 0.7])
ONE_GROUP = np.zeros(3, np.int32)


def ious_of(masks):
    rles = coco_rles(masks)
    return np.array(coco.iou(rles, rles, [0] * len(rles))).reshape(len(rles), len(rles))


def slow_nms(masks, scores, groups, threshold):
    """Positions kept: every mask against every kept one before it, best first."""
    ious, kept = ious_of(masks), []
    for i in sorted(range(len(masks)), key=lambda i: (-scores[i], i)):
        if masks[i].any() and not any(ious[i, j] > threshold and groups[i] == groups[j] for j in kept):
            kept.append(i)
    return kept


def slow_soft_nms(masks, scores, groups, decay, min_score):
    """Decayed scores: take the best, decay the rest of its group, repeat."""
    ious, scores, result = ious_of(masks), scores.astype(float).tolist(), np.full(len(masks), -1, np.float32)
    left = [i for i in range(len(masks)) if masks[i].any() and scores[i] >= min_score]
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        result[best] = scores[best]
        for i in left:
            if groups[i] == groups[best]:
                scores[i] *= decay(ious[best, i])
        left = [i for i in left if scores[i] >= min_score and i != best]
    return result


def soft_by(masks, scores, groups, method, *, threshold=0.3, sigma=0.5, min_score=0.01):
    """Decayed scores and those of the brute force."""
    smallest = float(np.float32(min_score))
    if method == "linear":
        mine = mask_soft_nms_linear(runs_of(masks), scores, groups, iou_threshold=threshold, min_score=min_score)
        slow = slow_soft_nms(masks, scores, groups, lambda iou: 1 - iou if iou > threshold else 1.0, smallest)
    else:
        mine = mask_soft_nms_gaussian(runs_of(masks), scores, groups, sigma=sigma, min_score=min_score)
        slow = slow_soft_nms(masks, scores, groups, lambda iou: math.exp(-iou * iou / sigma), smallest)
    return mine, slow


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, [0, 2]), (0.6, [0, 1, 2]), (0.1, [0])])
def test_known_answer(threshold, kept):
    assert mask_nms_keep(THREE, SCORES, ONE_GROUP, iou_threshold=threshold).tolist() == kept


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [pytest.param(0.5, [0.9, 0.32, 0.7], id="0.5"), pytest.param(0.1, [0.9, 0.32, 0.6], id="0.1")],
)
def test_known_answer_of_linear_decay(threshold, expected):
    decayed = mask_soft_nms_linear(THREE, SCORES, ONE_GROUP, iou_threshold=threshold, min_score=1e-4)
    assert decayed.tolist() == pytest.approx(expected, abs=1e-6)


def test_known_answer_of_gaussian_decay():
    decayed = mask_soft_nms_gaussian(THREE, SCORES, ONE_GROUP, sigma=0.5, min_score=1e-4)
    assert decayed.tolist() == pytest.approx([0.9, 0.8 * math.exp(-0.72), 0.7 * math.exp(-2 / 49)], abs=1e-6)


def test_chooses_by_decayed_score():
    # The first pulls the second below the third, which is chosen then and decays the second again.
    runs = Runs(1, 20, np.array([[0, 10], [0, 9], [2, 12]]), np.arange(4))  # IoU 01 .9, 02 8/12, 12 7/12
    decayed = mask_soft_nms_linear(runs, SCORES, ONE_GROUP, iou_threshold=0.5, min_score=1e-4)
    assert decayed.tolist() == pytest.approx([0.9, 0.8 * 0.1 * (1 - 7 / 12), 0.7 * (1 - 8 / 12)], abs=1e-6)


def test_thin_masks_that_cross_do_not_see_each_other_as_boxes_would():
    diagonal = np.eye(20, dtype=np.bool_)
    masks = np.array([diagonal, diagonal[::-1]])  # one box, no pixel in common
    kept = mask_nms_keep(runs_of(masks), np.float32([0.5, 0.9]), np.zeros(2, np.int32), iou_threshold=0.0)
    assert kept.tolist() == [1, 0]


def test_an_iou_that_equals_the_threshold_stays():
    masks = np.zeros((2, 1, 10), dtype=np.bool_)
    masks[0], masks[1, 0, :8] = True, True
    scores = np.float32([0.9, 0.8])
    assert len(mask_nms_keep(runs_of(masks), scores, np.zeros(2, np.int32), iou_threshold=0.8)) == 2
    assert len(mask_nms_keep(runs_of(masks), scores, np.zeros(2, np.int32), iou_threshold=0.79)) == 1


def test_ties_go_by_position():
    masks = np.ones((3, 2, 2), dtype=np.bool_)
    assert mask_nms_keep(runs_of(masks), np.float32([0.5] * 3), ONE_GROUP, iou_threshold=0.5).tolist() == [0]
    decayed = mask_soft_nms_linear(runs_of(masks), np.float32([0.5] * 3), ONE_GROUP, iou_threshold=0.5, min_score=1e-4)
    assert decayed.tolist() == [0.5, -1, -1]


def test_empty_masks_are_dropped_and_suppress_nothing():
    masks = np.zeros((3, 2, 2), dtype=np.bool_)
    masks[2] = True
    assert mask_nms_keep(runs_of(masks), SCORES, ONE_GROUP, iou_threshold=0.5).tolist() == [2]
    assert mask_soft_nms_gaussian(runs_of(masks), SCORES, ONE_GROUP, sigma=0.5, min_score=0.0).tolist() == [
        -1,
        -1,
        np.float32(0.7),
    ]


def test_groups_do_not_see_each_other():
    masks = np.ones((3, 2, 2), dtype=np.bool_)
    assert mask_nms_keep(runs_of(masks), SCORES, np.int32([7, 1202, 7]), iou_threshold=0.5).tolist() == [0, 1]


def test_no_masks():
    none, no_scores, no_groups = Runs.empty(4, 5), np.zeros(0, np.float32), np.zeros(0, np.int32)
    assert mask_nms_keep(none, no_scores, no_groups, iou_threshold=0.5).shape == (0,)
    assert mask_soft_nms_linear(none, no_scores, no_groups, iou_threshold=0.5, min_score=0.1).shape == (0,)


@settings(deadline=None, max_examples=200)
@given(small_masks(max_count=14), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_hard_equals_brute_force_on_masks_of_any_kind(masks, seed, threshold):
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.float32([0, 0.25, 0.5, 0.9]), len(masks))
    groups = rng.integers(0, 3, len(masks)).astype(np.int32)
    kept = mask_nms_keep(runs_of(masks), scores, groups, iou_threshold=threshold)
    assert kept.tolist() == slow_nms(masks, scores, groups, threshold)


@settings(deadline=None, max_examples=150)
@given(small_masks(max_count=14), st.integers(0, 2**32 - 1), st.sampled_from(["linear", "gaussian"]))
def test_soft_equals_brute_force_on_masks_of_any_kind(masks, seed, method):
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.float32([0, 0.25, 0.5, 0.9]), len(masks))
    groups = rng.integers(0, 3, len(masks)).astype(np.int32)
    mine, slow = soft_by(masks, scores, groups, method, threshold=float(rng.choice([0.0, 0.3, 0.5])))
    np.testing.assert_allclose(mine, slow, rtol=1e-6)


@pytest.mark.parametrize("classes", [1, 7, 1203])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_equals_brute_force_on_hundreds_of_noisy_shapes(classes, noise):
    masks = blobs(250, 100, 130, seed=3, sides=(4, 70), noise=noise)
    rng = np.random.default_rng(0)
    scores, groups = rng.uniform(0, 1, 250).astype(np.float32), rng.integers(0, classes, 250).astype(np.int32)
    for threshold in (0.0, 0.1, 0.3):
        kept = mask_nms_keep(runs_of(masks), scores, groups, iou_threshold=threshold)
        assert kept.tolist() == slow_nms(masks, scores, groups, threshold)
    for method in ("linear", "gaussian"):
        mine, slow = soft_by(masks, scores, groups, method)
        np.testing.assert_allclose(mine, slow, rtol=1e-6)


def test_a_second_pass_changes_nothing():
    masks = blobs(200, 60, 80)
    scores, groups = np.linspace(1, 0, 200, dtype=np.float32), np.zeros(200, np.int32)
    kept = mask_nms_keep(runs_of(masks), scores, groups, iou_threshold=0.2)
    assert 0 < len(kept) < 200
    again = mask_nms_keep(runs_of(masks)[kept], scores[kept], groups[kept], iou_threshold=0.2)
    assert again.tolist() == list(range(len(kept)))
