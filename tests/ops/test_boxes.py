"""Box arithmetic, and that conversions come back."""

import numpy as np
import pytest

from tis_ray.ops import boxes as box_ops

BOXES = np.array([[0, 0, 10, 5], [2, 3, 2, 9], [5, 5, 3, 9]], np.float32)


def test_area_of_an_inverted_box_is_zero():
    assert box_ops.area(BOXES).tolist() == [50, 0, 0]
    assert box_ops.area(BOXES).dtype == np.float32


def test_clip_cuts_to_the_image():
    boxes = np.array([[-5, -5, 50, 50], [30, 5, 40, 8]], np.float32)
    assert box_ops.clip(boxes, 10, 20).tolist() == [[0, 0, 20, 10], [20, 5, 20, 8]]
    assert box_ops.clip(boxes, 10, 20).dtype == np.float32


def test_xywh_and_back():
    assert box_ops.xyxy_to_xywh(BOXES[:1]).tolist() == [[0, 0, 10, 5]]
    assert box_ops.xyxy_to_xywh(BOXES[1:2]).tolist() == [[2, 3, 0, 6]]
    np.testing.assert_array_equal(box_ops.xywh_to_xyxy(box_ops.xyxy_to_xywh(BOXES)), BOXES)


def test_hflip_is_its_own_inverse():
    assert box_ops.hflip(np.array([[10, 0, 30, 5]], np.float32), 100).tolist() == [[70, 0, 90, 5]]
    np.testing.assert_array_equal(box_ops.hflip(box_ops.hflip(BOXES, 64), 64), BOXES)


@pytest.mark.parametrize(
    "operation",
    [
        box_ops.xyxy_to_xywh,
        box_ops.xywh_to_xyxy,
        lambda boxes: box_ops.clip(boxes, 9, 9),
        lambda boxes: box_ops.hflip(boxes, 9),
    ],
)
def test_inputs_stay_and_no_boxes_work(operation):
    boxes = BOXES.copy()
    operation(boxes)
    np.testing.assert_array_equal(boxes, BOXES)
    assert operation(BOXES[:0]).shape == (0, 4)
    assert operation(BOXES).dtype == np.float32
