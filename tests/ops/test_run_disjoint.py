"""Masks that share no pixel, against painting them one over the other."""

import numpy as np
import pytest

from tis_ray.errors import InputError
from tis_ray.ops import crop_runs
from tis_ray.ops.run_disjoint import disjoint
from tis_ray.ops.runs import Runs


def runs_of(masks):
    return crop_runs.of_crops(list(masks), np.zeros((len(masks), 2), np.int32), *masks.shape[1:])


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_each_pixel_stays_with_the_first_that_holds_it(density, seed):
    rng = np.random.default_rng(seed)
    masks = (rng.random((7, 9, 11)) < density).astype(np.uint8)
    order = rng.permutation(7)
    owner = np.full((9, 11), -1)
    for i in order[::-1]:
        owner[masks[i] > 0] = i
    expected = runs_of((owner == np.arange(7)[:, None, None]).astype(np.uint8))
    found = disjoint(runs_of(masks), order)
    np.testing.assert_array_equal(found.spans, expected.spans)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


def test_more_spans_than_before_are_kept():
    comb, full = np.zeros((2, 50, 40), np.uint8)
    comb[::2], full[:] = 1, 1
    found = disjoint(runs_of(np.stack([full, comb])), np.array([1, 0]))
    assert found.offsets.tolist() == [0, 1000, 2000]


def test_no_masks_stay_none():
    assert len(disjoint(Runs.empty(3, 4), np.zeros(0, np.int64))) == 0


def test_an_order_that_names_a_mask_twice_is_refused():
    with pytest.raises(InputError, match=r"order: expected every position below 2 once; got \[0 0\]"):
        disjoint(Runs.empty(3, 4, count=2), np.zeros(2, np.int64))
