"""Crops to runs and back, against full masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tis_ray.ops import crop_runs
from tis_ray.ops.runs import Runs

CROPS = st.lists(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)), max_size=4)
HEIGHT, WIDTH = 15, 18


def spans_of(mask):
    """[start, stop) of the pixels that are set, numbered column by column."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel() > 0, [0]]).astype(int)))
    return edges.reshape(-1, 2)


@settings(deadline=None)
@given(CROPS, st.data())
def test_crops_are_cut_at_the_borders_and_come_back_tight(crops, data):
    places = [data.draw(st.tuples(st.integers(-8, 20), st.integers(-8, 20))) for _ in crops]
    runs = crop_runs.of_crops(crops, np.array(places, np.int32).reshape(-1, 2), HEIGHT, WIDTH)
    assert len(runs) == len(crops)
    found, offsets = crop_runs.to_crops(runs)
    assert offsets.dtype == np.int32
    for i, (crop, (x, y)) in enumerate(zip(crops, places, strict=True)):
        canvas = np.zeros((60, 60), np.uint8)
        canvas[20 + y : 20 + y + crop.shape[0], 20 + x : 20 + x + crop.shape[1]] = crop != 0
        mask = canvas[20 : 20 + HEIGHT, 20 : 20 + WIDTH]
        np.testing.assert_array_equal(runs.spans[runs.offsets[i] : runs.offsets[i + 1]], spans_of(mask))
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            assert found[i].shape == (0, 0)
            continue
        assert offsets[i].tolist() == [columns[0], rows[0]]
        np.testing.assert_array_equal(found[i], mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_a_crop_without_pixels_has_no_runs(shape):
    runs = crop_runs.of_crops([np.zeros(shape, np.uint8)], np.array([[3, 3]]), 10, 10)
    assert runs.offsets.tolist() == [0, 0]
    assert crop_runs.to_crops(runs)[0][0].shape == (0, 0)


def test_a_run_over_two_columns_spans_all_rows():
    crops, offsets = crop_runs.to_crops(Runs(4, 5, np.array([[7, 9]]), np.array([0, 1])))
    assert offsets.tolist() == [[1, 0]]
    assert crops[0].tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]


def test_strided_crops_are_read_as_they_look():
    mask = (np.random.default_rng(0).random((9, 9)) < 0.5).astype(np.uint8)
    runs = crop_runs.of_crops([mask[:, ::-1], mask.T], np.zeros((2, 2), np.int32), 9, 9)
    np.testing.assert_array_equal(runs.spans[: runs.offsets[1]], spans_of(mask[:, ::-1]))
    np.testing.assert_array_equal(runs.spans[runs.offsets[1] :], spans_of(mask.T))


def test_no_crops_and_no_masks():
    assert len(crop_runs.of_crops([], np.zeros((0, 2), np.int32), 5, 6)) == 0
    crops, offsets = crop_runs.to_crops(Runs.empty(5, 6))
    assert (crops, offsets.shape) == ([], (0, 2))
