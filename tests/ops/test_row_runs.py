"""Runs in row-major order equal the transitions of the flattened full masks, and lead back to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tis_ray.errors import InputError
from tis_ray.ops import crop_runs, row_runs
from tis_ray.ops.runs import Runs

MASKS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.sampled_from([0, 1, 1]))


def brute(mask):
    flat, runs, start = [*mask.ravel().tolist(), 0], [], None
    for i, pixel in enumerate(flat):
        if pixel and start is None:
            start = i
        if not pixel and start is not None:
            runs.append((start, i - start))
            start = None
    return runs


def runs_of(masks):
    """The masks (N, height, width) as runs."""
    return crop_runs.of_crops(list(masks), np.zeros((len(masks), 2), np.int32), *masks.shape[1:])


def pairs(runs):
    """The starts and lengths of each mask, as they are written."""
    texts, _ = row_runs.to_texts(runs)
    return [[tuple(int(number) for number in one.split(" ")) for one in text.split("|")[:-1]] for text in texts]


def check(masks):
    runs = runs_of(masks)
    rows = pairs(runs)
    assert rows == [brute(mask) for mask in masks]
    texts, areas = row_runs.to_texts(runs)
    assert texts == ["".join(f"{start} {length}|" for start, length in brute(mask)) for mask in masks]
    np.testing.assert_array_equal(areas, masks.sum(axis=(1, 2)))
    back = row_runs.to_runs([tuple(np.array(row, np.int64).reshape(-1, 2).T) for row in rows], *masks.shape[1:])
    np.testing.assert_array_equal(back.spans, runs.spans)
    np.testing.assert_array_equal(back.offsets, runs.offsets)


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_rows_of_masks_are_their_transitions_and_lead_back(masks):
    check(masks)


@pytest.mark.parametrize("density", [0, 0.02, 0.5, 0.98, 1])
def test_many_masks_at_once(density):
    check((np.random.default_rng(0).random((300, 23, 31)) < density).astype(np.uint8))


def test_runs_over_the_right_border_are_one():
    mask = np.zeros((1, 6, 8), np.uint8)
    mask[0, 1, 5:] = mask[0, 2, :3] = 1
    assert pairs(runs_of(mask)) == [[(13, 6)]]


def test_a_whole_huge_image_is_one_run():
    runs = Runs(30_000, 40_000, np.array([[0, 1_200_000_000]]), np.array([0, 1]))
    assert pairs(runs) == [[(0, 1_200_000_000)]]


def test_no_masks_and_empty_masks():
    assert pairs(Runs.empty(5, 6)) == []
    assert len(row_runs.to_runs([], 5, 6)) == 0
    assert pairs(Runs.empty(5, 6, count=2)) == [[], []]


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
        row_runs.to_runs([(starts, lengths)], 5, 10)
