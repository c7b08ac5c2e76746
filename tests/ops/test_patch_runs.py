"""Pasted patches equal a walk over every pixel in the same float32 order, values about the threshold included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.errors import InputError
from tis_ray.ops import crop_runs, patch_runs
from tis_ray.ops.runs import Runs

PASTINGS = ("torchvision", "detectron2")
HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)


def axis(low, high, extent, size, pasting):
    """For each pixel: the patch's cell (its border is 0), the share of the next cell, and whether it is reached."""
    pixels = np.arange(extent)
    if pasting == "torchvision":
        first, length = int(low), max(int(high) - int(low) + 1, 1)
        scale = np.float32(size) / np.float32(length)
        source = np.maximum(scale * ((pixels - first).astype(np.float32) + HALF) - HALF, np.float32(0))
        reached = (pixels >= first) & (pixels < first + length)
    else:
        length = np.float32(high) - np.float32(low)
        normal = (pixels.astype(np.float32) + HALF - np.float32(low)) / length * TWO - ONE
        source = ((normal + ONE).astype(np.float64) * (size - 2) / 2 - 0.5).astype(np.float32)
        cell = np.clip(np.floor(source), -1, size - 3)
        return (cell + 1).astype(int), source - np.floor(source), (source > -1) & (source < size - 2)
    cell = np.clip(source.astype(int), 0, size - 2)
    return cell, np.minimum(source - cell.astype(np.float32), ONE), reached


def walked(patch, box, height, width, threshold, pasting):
    """The mask (height, width), one value computed for each of its pixels."""
    size = len(patch) + 2
    if pasting == "torchvision":
        frame = patch_runs._grow(box[None], size / len(patch))[0]
    elif (box[2:] <= box[:2]).any():
        return np.zeros((height, width), np.uint8)
    else:
        frame = box
    ringed = np.pad(patch.astype(np.float32), 1)
    left, across, in_x = axis(frame[0], frame[2], width, size, pasting)
    top, down, in_y = axis(frame[1], frame[3], height, size, pasting)
    upper = (ONE - across) * ringed[np.ix_(top, left)] + across * ringed[np.ix_(top, left + 1)]
    lower = (ONE - across) * ringed[np.ix_(top + 1, left)] + across * ringed[np.ix_(top + 1, left + 1)]
    values = (ONE - down)[:, None] * upper + down[:, None] * lower
    set_ = values > np.float32(threshold) if pasting == "torchvision" else values >= np.float32(threshold)
    return (set_ & in_x & in_y[:, None]).astype(np.uint8)


def full(runs: Runs):
    """The masks as (N, height, width)."""
    masks = np.zeros((len(runs), runs.height, runs.width), np.uint8)
    for mask, crop, (x, y) in zip(masks, *crop_runs.to_crops(runs), strict=True):
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return masks


def check(patches, boxes, height, width, pasting, threshold=0.5):
    runs = patch_runs.paste(patches, boxes, height, width, threshold=threshold, pasting=pasting)
    assert (runs.spans[:, 0] < runs.spans[:, 1]).all()
    for i, (mask, patch, box) in enumerate(zip(full(runs), patches, boxes, strict=True)):
        np.testing.assert_array_equal(mask, walked(patch, box, height, width, threshold, pasting), err_msg=str(i))
        spans = runs.spans[runs.offsets[i] : runs.offsets[i + 1]]
        assert (spans[1:, 0] > spans[:-1, 1]).all()


@pytest.mark.parametrize("pasting", PASTINGS)
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.9])
def test_every_pixel_equals_the_walk(pasting, threshold):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-150, 450, (60, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    boxes[::4, 2:] = boxes[::4, :2] + rng.uniform(0, 12, (15, 2)).astype(np.float32)
    check(rng.random((60, 7, 7)).astype(np.float16), boxes, 300, 310, pasting, threshold)


@pytest.mark.parametrize("pasting", PASTINGS)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 60, 400, 5000]))
def test_values_about_the_threshold_equal_the_walk(pasting, seed, length):
    rng = np.random.default_rng(seed)
    near = np.float16([0, 0.499512, 0.5, 0.500488, 1])  # the neighbours of 0.5 in float16
    patches = rng.choice(near, (4, 5, 5), p=[0.1, 0.25, 0.3, 0.25, 0.1])
    nudged = patches.astype(np.float32) + rng.choice(np.float32([0, 6e-8, -6e-8, 3e-7, -1e-6]), patches.shape)
    corners = rng.uniform(-length, 40, (4, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.5, 1, (4, 2)) * 2 * length], axis=1).astype(np.float32)
    check(patches, boxes, 90, 40, pasting)
    check(nudged, boxes, 90, 40, pasting)
    check(rng.choice(np.float32([0.5 - 3e-8, 0.5, 0.5 + 6e-8]), (4, 5, 5)), boxes, 90, 40, pasting)  # and float32's


@pytest.mark.parametrize("pasting", PASTINGS)
def test_a_patch_without_relief_over_a_huge_image_is_a_span_to_a_column(pasting):
    height, width = 20_000, 30_000
    boxes = np.float32([[0, 0, width, height]])
    flat = patch_runs.paste(np.full((1, 28, 28), 0.5, np.float16), boxes, height, width, pasting=pasting)
    assert len(flat.spans) == 0 if pasting == "torchvision" else 0.95 * width < len(flat.spans) < width
    full = patch_runs.paste(np.ones((1, 28, 28), np.float16), boxes, height, width, pasting=pasting)
    assert len(full.spans) <= width
    assert np.diff(full.spans).sum() > 0.99 * height * width


def test_more_spans_than_columns_are_written_whole():
    stripes = np.zeros((1, 28, 28), np.float16)
    stripes[:, ::2] = 1  # fourteen spans to a column
    check(stripes, np.float32([[0, 0, 120, 290]]), 300, 125, "torchvision")
    check(np.repeat(stripes, 9, axis=0), np.tile(np.float32([[0, 0, 120, 290]]), (9, 1)), 300, 125, "detectron2")


def test_touching_spans_of_two_columns_are_one():
    runs = patch_runs.paste(np.ones((1, 4, 4), np.float16), np.float32([[-50, -50, 90, 90]]), 8, 6)
    assert runs.spans.tolist() == [[0, 48]]


@pytest.mark.parametrize("pasting", PASTINGS)
def test_no_patches_give_no_masks(pasting):
    runs = patch_runs.paste(np.zeros((0, 28, 28), np.float16), np.zeros((0, 4), np.float32), 5, 6, pasting=pasting)
    assert (len(runs), runs.height, runs.width) == (0, 5, 6)


def test_a_box_turned_inside_out_has_no_pixels_in_detectron2s_way():
    runs = patch_runs.paste(
        np.ones((2, 4, 4), np.float16), np.float32([[9, 2, 3, 8], [3, 8, 9, 2]]), 20, 20, pasting="detectron2"
    )
    assert runs.offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": np.zeros((3, 4, 4))}, r"probabilities: expected shape \(2, M, M\)"),
        ({"probabilities": np.zeros((2, 4, 5))}, r"probabilities: expected shape \(2, M, M\)"),
        ({"probabilities": np.zeros((2, 0, 0))}, r"probabilities: expected shape \(2, M, M\)"),
        ({"boxes": np.zeros((2, 5), np.float32)}, r"boxes: expected shape \(N, 4\); got \(2, 5\)"),
        ({"boxes": np.float32([[0, 0, 1, 1], [0, 0, np.nan, 1]])}, r"boxes: expected numbers .* at position 1"),
        ({"boxes": np.float32([[0, 0, 1, 1e20], [0, 0, 1, 1]])}, r"boxes: expected numbers .* at position 0"),
        ({"threshold": 0.0}, "threshold: expected above 0 and at most 1; got 0.0"),
        ({"threshold": 1.5}, "threshold: expected above 0 and at most 1; got 1.5"),
        ({"pasting": "mmcv"}, "pasting: expected torchvision or detectron2; got 'mmcv'"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    good = {"probabilities": np.zeros((2, 4, 4), np.float16), "boxes": np.zeros((2, 4), np.float32)}
    with pytest.raises(InputError, match=message):
        patch_runs.paste(**({**good, "height": 9, "width": 9} | change))
