"""Masks as runs, picked and joined as rows of an array are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dense_masks import dense_of, runs_of, small_masks
from tis_ray.errors import InputError
from tis_ray.ops.runs import Runs


@settings(deadline=None, max_examples=100)
@given(small_masks(), st.integers(0, 2**32 - 1))
def test_indexing_picks_masks_as_rows_of_pixels(masks, seed):
    runs, rng = runs_of(masks), np.random.default_rng(seed)
    chosen = rng.integers(-len(masks), len(masks), 6 if len(masks) else 0)
    np.testing.assert_array_equal(dense_of(runs[chosen]), masks[chosen])
    np.testing.assert_array_equal(dense_of(runs[1:4]), masks[1:4])
    where = np.arange(len(masks)) % 2 == 0
    np.testing.assert_array_equal(dense_of(runs[where]), masks[where])


@settings(deadline=None, max_examples=100)
@given(small_masks())
def test_those_not_kept_are_empty(masks):
    where = np.arange(len(masks)) % 3 != 1
    np.testing.assert_array_equal(dense_of(runs_of(masks).kept(where)), masks & where[:, None, None])


@settings(deadline=None, max_examples=50)
@given(small_masks(size=(4, 5)), small_masks(size=(4, 5)))
def test_concatenation_keeps_the_order(masks, others):
    joined = Runs.concatenate([runs_of(masks), runs_of(others), Runs.empty(4, 5, count=2)])
    np.testing.assert_array_equal(dense_of(joined), np.concatenate([masks, others, np.zeros((2, 4, 5), np.bool_)]))
    joined.check_values()


def test_arrays_of_wrong_type_are_refused():
    with pytest.raises(InputError, match=r"^spans: expected int64 \(R, 2\); got int32 \(0, 2\)$"):
        Runs(3, 4, np.zeros((0, 2), np.int32), np.zeros(1, np.int64))
    with pytest.raises(InputError, match=r"^offsets: expected int64 \(N \+ 1,\) that end at 1; got \[0 2\]$"):
        Runs(3, 4, np.array([[0, 1]]), np.array([0, 2]))
