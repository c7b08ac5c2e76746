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


def logit(p):
    return np.log(np.clip(p, 1e-6, 1 - 1e-6) / (1 - np.clip(p, 1e-6, 1 - 1e-6)))


def mean_of(pasted_masks, weights, of):
    """The weighted mean of full-frame masks, pixel by pixel."""
    weights = np.array(weights)[:, None, None] / np.sum(weights)
    if of == "probability":
        return (weights * pasted_masks).sum(axis=0)
    return 1 / (1 + np.exp(-(weights * logit(np.array(pasted_masks))).sum(axis=0)))


def random_patches(count, size):
    return RNG.uniform(0, 1, (count, size, size)).astype(np.float16)


@pytest.mark.parametrize(
    ("of", "expected"),
    [pytest.param("probability", [0.6, 0.466667], id="SOFT_AVG"), pytest.param("logit", [0.6422, 0.4663], id="logits")],
)
def test_known_answers_of_three_patches_over_the_same_box(of, expected):
    patches = np.array([[[0.9, 0.2]] * 2, [[0.6, 0.4]] * 2, [[0.3, 0.8]] * 2], np.float16)
    frames = np.array([[10, 20, 30, 40]] * 3, np.float32)
    mean = average_onto(frames[:1], patches, frames, np.array([[0, 1, 2]]), np.ones((1, 3)), of=of)
    np.testing.assert_allclose(mean, [[expected] * 2], atol=5e-4)


@pytest.mark.parametrize("of", ["probability", "logit"])
def test_cells_that_are_pixels_equal_the_mean_of_masks_pasted_onto_the_full_frame(of):
    size, box = 14, (20, 11, 34, 25)  # 14 x 14 px: each cell is a pixel
    frames = np.array([[18.3, 10.1, 33.2, 26], [22, 12.5, 36.7, 24], [20, 11, 34, 25], [-9, 2, 60, 21]], np.float32)
    patches = random_patches(4, size)
    weights = np.array([[0.9, 0.3, 0.5, 0.2]])
    mean = average_onto(np.array([box], np.float32), patches, frames, np.arange(4)[None], weights, of=of)
    full = [pasted(patch, frame, pixel_centres(40, 50)) for patch, frame in zip(patches, frames, strict=True)]
    expected = mean_of(full, weights[0], of)[11:25, 20:34]
    assert mean.dtype == np.float16
    np.testing.assert_allclose(mean[0], expected, atol=6e-4)


@pytest.mark.parametrize("of", ["probability", "logit"])
@pytest.mark.parametrize("size", [1, 2, 7, 28])
def test_random_boxes_equal_pasted_masks_at_the_cells_centres(size, of):
    corners = RNG.uniform(-5, 40, (25, 2))
    boxes = np.c_[corners, corners + RNG.uniform(0.1, 30, (25, 2))].astype(np.float32)
    corners = RNG.uniform(-5, 40, (40, 2))
    frames = np.c_[corners, corners + RNG.uniform(0.1, 30, (40, 2))].astype(np.float32)
    patches, picks, weights = random_patches(40, size), RNG.integers(-1, 40, (25, 6)), RNG.uniform(0, 1, (25, 6))
    picks[:, 0] = RNG.integers(0, 40, 25)
    means = average_onto(boxes, patches, frames, picks, weights, of=of)
    for box, picked, shares, mean in zip(boxes, picks, weights, means, strict=True):
        rows = [(p, w) for p, w in zip(picked, shares, strict=True) if p >= 0]
        points = cell_centres(box.astype(np.float64), size)
        full = [pasted(patches[p], frames[p].astype(np.float64), points) for p, _ in rows]
        np.testing.assert_allclose(mean, mean_of(full, [w for _, w in rows], of), atol=6e-4)


def test_a_patch_over_its_own_frame_is_the_same_bits():
    corners = RNG.uniform(0, 3000, (50, 2))
    boxes = np.c_[corners, corners + RNG.uniform(1, 300, (50, 2))].astype(np.float32)
    patches = random_patches(50, 28)
    np.testing.assert_array_equal(
        average_onto(boxes, patches, boxes, np.arange(50)[:, None], np.full((50, 1), 0.3)), patches
    )


def test_a_sure_patch_is_not_infinitely_sure():
    frames = np.array([[0, 0, 10, 10]] * 3, np.float32)
    patches = np.array([1.0, 0.0, 0.0], np.float16)[:, None, None] * np.ones((1, 5, 5), np.float16)
    picks, weights = np.array([[0, 1], [0, 1]]), np.array([[1.0, 1.0], [2.0, 1.0]])
    means = average_onto(frames[:2], patches, frames, picks, weights, of="logit")[:, 2, 2]
    np.testing.assert_allclose(means, [0.5, 1 / (1 + 1e-6 ** (1 / 3))], atol=1e-3)
    alone = average_onto(frames[:1], patches, frames, np.array([[1, 2]]), np.ones((1, 2)), of="logit")
    assert (alone < 1e-5).all()


@pytest.mark.parametrize("of", ["probability", "logit"])
def test_what_lies_outside_a_frame_or_in_a_frame_without_area_is_0(of):
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    frames = np.array([[20, 0, 30, 10], [3, 3, 3, 9], [0, 0, 10, 10]], np.float32)
    patches = np.ones((3, 5, 5), np.float16)
    for pick in (0, 1):
        mean = average_onto(boxes, patches, frames, np.array([[pick, 2]]), np.ones((1, 2)), of=of)[0]
        np.testing.assert_allclose(mean, 0.5, atol=1e-4)


@pytest.mark.parametrize("of", ["probability", "logit"])
def test_without_picks_or_weights_the_mean_is_0(of):
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    patches = np.ones((3, 5, 5), np.float16)
    picks, weights = np.array([[-1, -1], [0, 1], [0, -1]]), np.array([[1, 1], [0, 0], [1, 1]], np.float64)
    means = average_onto(boxes, patches, boxes, picks, weights, of=of)
    assert means[:2].tolist() == np.zeros((2, 5, 5)).tolist()
    np.testing.assert_allclose(means[2], 1, atol=1e-5)


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
