"""Averaging patches of different frames, against masks pasted onto the full frame by PyTorch's own sampler."""

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from tis_ray.ops.patches import average_onto

RNG = np.random.default_rng(0)


def pasted(patch, frame, points):
    """Probabilities of a patch (M, M) over `frame` at points (..., 2) x, y of the image; 0 outside."""
    frame, points = torch.as_tensor(frame, dtype=torch.float64), torch.as_tensor(points, dtype=torch.float64)
    grid = (points - frame[:2]) / (frame[2:] - frame[:2]) * 2 - 1
    source = torch.as_tensor(patch.astype(np.float64))[None, None]
    flat = grid.reshape(1, 1, -1, 2)
    sampled = grid_sample(source, flat, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.reshape(points.shape[:-1]).numpy()


def pixel_centres(height, width):
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y], axis=-1)


def cell_centres(box, size):
    share = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(box[0] + share * (box[2] - box[0]), box[1] + share * (box[3] - box[1]))
    return np.stack([x, y], axis=-1)


def random_patches(count, size):
    return RNG.uniform(0, 1, (count, size, size)).astype(np.float16)


def test_cells_that_are_pixels_equal_the_mean_of_masks_pasted_onto_the_full_frame():
    size, box = 14, (20, 11, 34, 25)  # 14 x 14 px: each cell is a pixel
    frames = np.array([[18.3, 10.1, 33.2, 26], [22, 12.5, 36.7, 24], [20, 11, 34, 25], [-9, 2, 60, 21]], np.float32)
    patches = random_patches(4, size)
    weights = np.array([[0.9, 0.3, 0.5, 0.2]])
    mean = average_onto(np.array([box], np.float32), patches, frames, np.arange(4)[None], weights)
    full = sum(
        weight * pasted(patch, frame, pixel_centres(40, 50))
        for weight, patch, frame in zip(weights[0], patches, frames, strict=True)
    )
    expected = (full / weights.sum())[11:25, 20:34]
    assert mean.dtype == np.float16
    np.testing.assert_allclose(mean[0], expected, atol=6e-4)


@pytest.mark.parametrize("size", [1, 2, 7, 28])
def test_random_boxes_equal_pasted_masks_at_the_cells_centres(size):
    corners = RNG.uniform(-5, 40, (25, 2))
    boxes = np.c_[corners, corners + RNG.uniform(0.1, 30, (25, 2))].astype(np.float32)
    corners = RNG.uniform(-5, 40, (40, 2))
    frames = np.c_[corners, corners + RNG.uniform(0.1, 30, (40, 2))].astype(np.float32)
    patches, picks, weights = random_patches(40, size), RNG.integers(-1, 40, (25, 6)), RNG.uniform(0, 1, (25, 6))
    means = average_onto(boxes, patches, frames, picks, weights)
    for box, picked, shares, mean in zip(boxes, picks, weights, means, strict=True):
        rows = [(p, w) for p, w in zip(picked, shares, strict=True) if p >= 0]
        points = cell_centres(box.astype(np.float64), size)
        total = sum(w * pasted(patches[p], frames[p].astype(np.float64), points) for p, w in rows)
        np.testing.assert_allclose(mean, total / sum(w for _, w in rows), atol=6e-4)


def test_a_patch_over_its_own_frame_is_the_same_bits():
    corners = RNG.uniform(0, 3000, (50, 2))
    boxes = np.c_[corners, corners + RNG.uniform(1, 300, (50, 2))].astype(np.float32)
    patches = random_patches(50, 28)
    np.testing.assert_array_equal(
        average_onto(boxes, patches, boxes, np.arange(50)[:, None], np.full((50, 1), 0.3)), patches
    )


def test_what_lies_outside_a_frame_or_in_a_frame_without_area_is_0():
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    frames = np.array([[20, 0, 30, 10], [3, 3, 3, 9], [0, 0, 10, 10]], np.float32)
    patches = np.ones((3, 5, 5), np.float16)
    means = [average_onto(boxes, patches, frames, np.array([[pick, 2]]), np.ones((1, 2))) for pick in (0, 1)]
    assert all((mean == 0.5).all() for mean in means)


def test_without_picks_or_weights_the_mean_is_0():
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    patches = np.ones((3, 5, 5), np.float16)
    picks, weights = np.array([[-1, -1], [0, 1], [0, -1]]), np.array([[1, 1], [0, 0], [1, 1]], np.float64)
    assert average_onto(boxes, patches, boxes, picks, weights).mean(axis=(1, 2)).tolist() == [0, 0, 1]


def test_no_boxes_no_patches_and_no_picks():
    none, empty = np.zeros((0, 4), np.float32), np.zeros((0, 5, 5), np.float16)
    assert average_onto(none, empty, none, np.zeros((0, 3), np.int64), np.zeros((0, 3))).shape == (0, 5, 5)
    box = np.array([[0, 0, 9, 9]], np.float32)
    assert not average_onto(box, empty, none, np.full((1, 2), -1), np.ones((1, 2))).any()
    assert not average_onto(box, empty, none, np.zeros((1, 0), np.int64), np.zeros((1, 0))).any()


def test_inputs_may_be_read_only():
    boxes, patches = np.array([[0, 0, 9, 9]], np.float32), random_patches(1, 5)
    picks, weights = np.zeros((1, 1), np.int64), np.ones((1, 1))
    for array in (boxes, patches, picks, weights):
        array.flags.writeable = False
    np.testing.assert_array_equal(average_onto(boxes, patches, boxes, picks, weights), patches)
