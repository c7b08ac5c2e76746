"""Runs in row-major order equal the transitions of the flattened full mask, and lead back to it."""

import numpy as np
import pytest

from tis_ray.errors import InputError
from tis_ray.ops import row_runs


def _brute(mask: np.ndarray) -> list[tuple[int, int]]:
    flat, runs, start = [*mask.ravel().tolist(), 0], [], None
    for i, pixel in enumerate(flat):
        if pixel and start is None:
            start = i
        if not pixel and start is not None:
            runs.append((start, i - start))
            start = None
    return runs


def _cases() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    masks = [(rng.random((9, 13)) < density).astype(np.uint8) for density in (0, 0.05, 0.3, 0.7, 0.95, 1)]
    masks += [np.ones((1, 7), np.uint8), np.ones((7, 1), np.uint8), np.ones((1, 1), np.uint8)]
    corners = np.zeros((6, 8), np.uint8)
    corners[0, 0] = corners[0, -1] = corners[-1, 0] = corners[-1, -1] = 1
    borders = np.ones((6, 8), np.uint8)
    borders[2:4, 3:5] = 0
    wrapped = np.zeros((6, 8), np.uint8)
    wrapped[1, 5:], wrapped[2, :3] = 1, 1  # one run over the line's end
    return [*masks, corners, borders, wrapped]


@pytest.mark.parametrize("mask", _cases(), ids=range(len(_cases())))
def test_runs_of_a_whole_mask_and_of_its_crop_equal_its_transitions(mask):
    height, width = mask.shape
    expected = _brute(mask)
    starts, lengths = row_runs.of_crop(mask, (0, 0), width)
    assert list(zip(starts.tolist(), lengths.tolist(), strict=True)) == expected
    crop, (x, y) = row_runs.to_crop(starts, lengths, height, width)
    back = np.zeros_like(mask)
    back[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    np.testing.assert_array_equal(back, mask)
    if mask.any():
        ys, xs = np.nonzero(mask)
        assert (x, y) == (xs.min(), ys.min())
        assert crop.shape == (ys.max() + 1 - y, xs.max() + 1 - x)
        again = row_runs.of_crop(crop, (x, y), width)
        np.testing.assert_array_equal(again, (starts, lengths))


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_a_crop_without_pixels_has_no_runs(shape):
    starts, lengths = row_runs.of_crop(np.zeros(shape, np.uint8), (3, 3), 10)
    assert len(starts) == len(lengths) == 0
    assert row_runs.to_crop(starts, lengths, 10, 10)[0].shape == (0, 0)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([(0, 0)], "run lengths of 1 to 50; got 0 to 0"),
        ([(0, -3)], "run lengths of 1 to 50"),
        ([(0, 51)], "run lengths of 1 to 50; got 51"),
        ([(-1, 2)], "within the 50 pixels of 10x5"),
        ([(49, 2)], "within the 50 pixels of 10x5"),
        ([(2**62, 2)], "within the 50 pixels of 10x5"),
        ([(5, 3), (7, 1)], "rise and do not overlap"),
        ([(5, 3), (2, 1)], "rise and do not overlap"),
    ],
)
def test_runs_that_are_no_mask_are_refused(runs, message):
    starts, lengths = np.array(runs, dtype=np.int64).T
    with pytest.raises(InputError, match=message):
        row_runs.to_crop(starts, lengths, 5, 10)
