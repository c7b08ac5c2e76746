"""Hard and soft suppression bit for bit as the plain double loops written here, and hard suppression as torchvision's.

The loops look at every pair; the boxes are clusters of mixed sizes in numbers for which a tree has several levels.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.generate import all_overlapping, growing, views_of_boxes
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.ops.suppression import nms_keep, soft_nms_gaussian, soft_nms_linear

MIN_SCORE = 1e-3


def ious_with(box, boxes):
    """IoU (N,) of one box with each of boxes (N, 4), in float64 in the order of the definition."""
    box, boxes = box.astype(np.float64), boxes.astype(np.float64)
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    union = area + (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) - shared
    return np.divide(shared, union, out=np.zeros(len(boxes)), where=shared > 0)


def slow_nms(boxes, scores, groups, threshold):
    kept = []
    free = np.ones(len(boxes), dtype=bool)
    for i in np.argsort(-scores, kind="stable"):
        if free[i]:
            kept.append(i)
            free &= ~((groups == groups[i]) & (ious_with(boxes[i], boxes) > threshold))
    return kept


def slow_soft_nms(boxes, scores, groups, decay, min_score):
    """Take the best of all, decay the rest of its group, and again; `decay` is that of one IoU."""
    decayed, result = scores.astype(np.float64), np.full(len(boxes), -1, dtype=np.float32)
    left = decayed >= np.float32(min_score)
    while left.any():
        best = np.flatnonzero(left)[np.argmax(decayed[left])]
        left[best] = False
        result[best] = decayed[best]
        ious = ious_with(boxes[best], boxes)
        for i in np.flatnonzero(left & (groups == groups[best]) & (ious > 0)):
            decayed[i] *= decay(float(ious[i]))
        left &= decayed >= np.float32(min_score)
    return result


def linear(threshold):
    return lambda iou: 1 - iou if iou > threshold else 1.0


def gaussian(sigma):
    return lambda iou: math.exp(-iou * iou / sigma)


def check(boxes, scores, groups, *, threshold, sigma=0.5):
    """All three rules equal the loops above to the last bit."""
    kept = nms_keep(boxes, scores, groups, iou_threshold=threshold)
    assert kept.tolist() == slow_nms(boxes, scores, groups, threshold)
    decayed = soft_nms_linear(boxes, scores, groups, iou_threshold=threshold, min_score=MIN_SCORE)
    expected = slow_soft_nms(boxes, scores, groups, linear(threshold), MIN_SCORE)
    np.testing.assert_array_equal(decayed, expected)
    decayed = soft_nms_gaussian(boxes, scores, groups, sigma=sigma, min_score=MIN_SCORE)
    np.testing.assert_array_equal(decayed, slow_soft_nms(boxes, scores, groups, gaussian(sigma), MIN_SCORE))


@st.composite
def clustered(draw):
    """Boxes, scores and groups with exact duplicates, ties, boxes without area and, at times, far and huge ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, objects = draw(st.integers(0, 20) | st.integers(100, 300)), draw(st.integers(1, 30))
    side = np.exp(rng.uniform(0, draw(st.sampled_from([0.1, 3.0, 7.0])), (objects, 2)))
    corner = rng.uniform(-1, 1, (objects, 2)) * draw(st.sampled_from([0.0, 50.0, 1e3, 1e6]))
    which = rng.integers(0, objects, count)
    jitter = rng.normal(0, 0.1, (count, 4)) * np.tile(side, 2)[which]
    boxes = np.concatenate([corner, corner + side], axis=1)[which] + jitter
    boxes = np.round(boxes) if draw(st.booleans()) else boxes
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    boxes *= draw(st.sampled_from([1e-3, 1.0, 1e12]))
    if count and draw(st.booleans()):
        boxes[rng.integers(0, count)] = [-1e15, -1e15, 1e15, 1e15]
        boxes[rng.integers(0, count)] = boxes[0]
    grain = draw(st.sampled_from([2, 20, 10**6]))
    scores = np.round(rng.uniform(0, 1, count) * grain) / grain
    groups = rng.integers(0, draw(st.sampled_from([1, 3, 1203])), count)
    return boxes.astype(np.float32), scores.astype(np.float32), groups.astype(np.int32)


@settings(deadline=None, max_examples=50)
@given(clustered(), st.sampled_from([0.0, 0.2, 0.5, 0.7, 0.95, 1.0]), st.sampled_from([0.1, 0.5]))
def test_equals_the_plain_loops_to_the_last_bit(detections, threshold, sigma):
    check(*detections, threshold=threshold, sigma=sigma)


@pytest.mark.parametrize("num_classes", [1, 7, 1203])
def test_equals_the_plain_loops_on_the_views_of_a_frame(num_classes):
    boxes, scores, labels, _ = views_of_boxes(20, 1200, num_classes)
    check(boxes, scores, labels, threshold=0.5)


def test_equals_the_plain_loops_where_all_boxes_overlap():
    boxes, scores, labels, _ = all_overlapping(300)
    check(boxes, scores, labels, threshold=0.95)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("num_classes", [1, 80, 1203])
def test_nms_keeps_what_torchvision_keeps_within_each_class(num_classes, threshold):
    boxes, scores, labels, _ = views_of_boxes(20, 3000, num_classes, seed=1)
    kept = nms_keep(boxes, scores, labels, iou_threshold=threshold)
    near = 0 < threshold < 1 and (np.abs(pairwise_iou(boxes, boxes) - threshold) < 1e-6).any()
    assert not near  # float32 and float64 agree on which side of the threshold each pair is
    expected = torchvision.ops.batched_nms(*(torch.from_numpy(array) for array in (boxes, scores, labels)), threshold)
    assert kept.tolist() == expected.tolist()


def test_nms_tells_tenths_of_a_pixel_apart_in_the_last_of_many_classes():
    # Moving class 1202 aside by 1202 x 10001 px would leave float32 steps of 1 px.
    boxes = np.array([[9000, 9000, 9001, 9001], [9000.4, 9000, 9001.4, 9001]], np.float32)
    labels = np.full(2, 1202, np.int32)
    assert nms_keep(boxes, np.float32([0.9, 0.8]), labels, iou_threshold=0.5).tolist() == [0, 1]
    assert nms_keep(boxes, np.float32([0.9, 0.8]), labels, iou_threshold=0.4).tolist() == [0]


@pytest.mark.parametrize("tenths", range(1, 10))
def test_nms_keeps_an_iou_that_equals_the_threshold(tenths):
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, tenths]], np.float32)
    kept = nms_keep(boxes, np.float32([0.9, 0.8]), np.zeros(2, np.int32), iou_threshold=tenths / 10)
    assert kept.tolist() == [0, 1]


def test_groups_may_have_any_numbers():
    boxes = np.repeat(np.array([[0, 0, 10, 10]], np.float32), 4, axis=0)
    groups = np.array([2**31 - 1, -(2**31), -1, 2**31 - 1], np.int32)
    assert nms_keep(boxes, np.float32([0.1, 0.2, 0.3, 0.4]), groups, iou_threshold=0.5).tolist() == [3, 2, 1]


def test_what_it_is_given_stays_as_it_was():
    given_arrays = views_of_boxes(20, 100, 3)[:3]
    copies = [array.copy() for array in given_arrays]
    for array in given_arrays:
        array.flags.writeable = False
    check(*given_arrays, threshold=0.5)
    for array, copy in zip(given_arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("make", [growing, all_overlapping])
def test_memory_grows_with_the_boxes_and_not_with_their_pairs(make):
    boxes, scores, labels, _ = make(40_000)
    suppress(boxes[:10], scores[:10], labels[:10])  # compiled
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is resident now
    before = peak_kb()
    suppress(boxes, scores, labels)
    assert (
        peak_kb() - before < 60_000
    )  # one bit for each pair would be 200 000, and the tracer does not see compiled code


def suppress(boxes, scores, labels):
    kept = nms_keep(boxes, scores, labels, iou_threshold=0.5)
    soft_nms_linear(boxes[kept], scores[kept], labels[kept], iou_threshold=0.5, min_score=0.1)
    soft_nms_linear(boxes, scores, labels, iou_threshold=0.5, min_score=0.9)


def peak_kb():
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
