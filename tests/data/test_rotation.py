"""Turned samples against full masks turned pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.full_masks import boxes_of, crops_of, full, random_sample, turned
from tis_ray.data.rotation import FILL, Rotation, rotate
from tis_ray.data.transforms import Labelled
from tis_ray.instances import Annotations

ANGLES = st.one_of(st.floats(-180, 180), st.sampled_from([0.0, 90.0, -90.0, 180.0]))


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(1, 50), st.integers(1, 50)), st.integers(0, 6), ANGLES)
def test_masks_are_those_of_full_masks(size_hw, count, degrees):
    sample, masks = random_sample(count, size_hw, count)
    image, annotations = rotate(*sample, degrees)
    assert image.shape == (3, *size_hw)
    assert image.dtype == torch.uint8
    expected = np.array([turned(mask, degrees) for mask in masks]).reshape(-1, *size_hw)
    left = expected.sum((1, 2))
    kept = np.flatnonzero(np.where(sample.annotations.crowd, left > 0, left >= 0.1 * masks.sum((1, 2))))
    assert annotations.labels.tolist() == kept.tolist()
    np.testing.assert_array_equal(full(annotations.masks, size_hw), expected[kept])
    np.testing.assert_array_equal(annotations.boxes, boxes_of(expected[kept]))
    np.testing.assert_array_equal(annotations.stuff, turned(sample.annotations.stuff, degrees, fill=255))


@pytest.mark.parametrize("degrees", [7.3, -31, 90, 180])
def test_pictures_lie_under_their_masks(degrees):
    image = torch.zeros((3, 81, 120), dtype=torch.uint8)
    image[0, 20:50, 30:90], image[1, 55:75, 10:40] = 200, 200
    masks = crops_of((image[:2] > 0).numpy().astype(np.uint8))
    truth = Annotations(masks.boxes(), np.array([0, 1], np.int32), masks, np.zeros(2, np.bool_))
    moved, annotations = rotate(image, truth, degrees)
    shown = full(annotations.masks, (81, 120))
    for channel, mask in zip(annotations.labels, shown, strict=True):
        wrong = (moved[channel].numpy() > 150) != (mask > 0)
        wrong &= moved[channel].numpy() != FILL
        border = sum(np.abs(np.diff(mask.astype(int), axis=axis)).sum() for axis in (0, 1))
        assert wrong.sum() <= 0.6 * border  # within the half pixel at the border that bilinear blends
        inner = np.ones_like(mask)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                inner &= np.roll(mask, (dy, dx), (0, 1))
        inner[[0, -1]], inner[:, [0, -1]] = 0, 0
        assert (moved[channel].numpy()[inner > 0] > 150).all()


def test_counter_clockwise_by_a_quarter_turn():
    sample, _ = random_sample(0, (30, 30), 2)
    image, _ = rotate(*sample, 90)
    assert torch.equal(image, torch.rot90(sample.image, 1, (1, 2)))


def test_what_was_never_seen_is_grey():
    sample, _ = random_sample(0, (40, 60), 0)
    image, annotations = rotate(*sample, 20)
    assert (image[:, 0, 0] == FILL).all()
    assert annotations.stuff[0, 0] == 255
    assert len(annotations) == 0


def test_unlabelled_boxes_hold_their_turned_corners():
    sample, _ = random_sample(0, (100, 100), 1)
    boxes = np.array([[40, 40, 60, 60], [0, 0, 10, 10]], np.float32)
    truth = Annotations(
        **{name: getattr(sample.annotations, name) for name in ("boxes", "labels", "masks", "crowd")}, unlabelled=boxes
    )
    moved = rotate(sample.image, truth, 45).annotations.unlabelled
    half = 10 * np.sqrt(2)
    np.testing.assert_allclose(moved[0], [50 - half, 50 - half, 50 + half, 50 + half], rtol=1e-5)
    assert (moved[1] >= 0).all()
    assert moved[1, 2] < 0.1  # turned out of the picture


def test_inputs_are_left_alone():
    sample, masks = random_sample(3, (33, 41), 4)
    before = sample.image.clone(), sample.annotations.boxes.copy()
    rotate(*sample, 13)
    assert torch.equal(sample.image, before[0])
    np.testing.assert_array_equal(sample.annotations.boxes, before[1])
    np.testing.assert_array_equal(full(sample.annotations.masks, (33, 41)), masks)


def test_a_huge_and_a_tiny_object():
    masks = np.zeros((2, 700, 900), np.uint8)
    masks[0] = 1
    masks[1, 350, 450] = 1
    crops = crops_of(masks)
    truth = Annotations(crops.boxes(), np.array([0, 1], np.int32), crops, np.zeros(2, np.bool_))
    _, annotations = rotate(torch.zeros((3, 700, 900), dtype=torch.uint8), truth, 5)
    for mask, label in zip(full(annotations.masks, (700, 900)), annotations.labels, strict=True):
        np.testing.assert_array_equal(mask, turned(masks[label], 5))


def test_angles_lie_in_both_directions_and_draws_are_as_many():
    drawn = [Rotation(1.0, 10).draw(np.random.default_rng(i)) for i in range(200)]
    assert -10 <= min(drawn) < -9
    assert 9 < max(drawn) <= 10
    left = []
    for probability in (0.0, 1.0):
        chance = np.random.default_rng(0)
        Rotation(probability).draw(chance)
        left.append(chance.random())
    assert left[0] == left[1]
    assert isinstance(rotate(*random_sample(0, (5, 5), 1)[0], 0.0), Labelled)
