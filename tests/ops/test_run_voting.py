"""Votes of masks on pixels: a known answer, and a brute force that asks every pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dense_masks import blobs, dense_of, runs_of, small_masks
from tis_ray.errors import InputError
from tis_ray.ops.run_voting import weighted_vote
from tis_ray.ops.runs import Runs


def slow_vote(masks, picks, weights, threshold):
    """Each pixel by itself; both sums in the order of the picks."""
    voted = np.zeros((len(picks), *masks.shape[1:]), dtype=np.bool_)
    for n, (row, shares) in enumerate(zip(picks, weights, strict=True)):
        held, total = np.zeros(masks.shape[1:]), 0.0
        for pick, share in zip(row, shares, strict=True):
            if pick >= 0:
                held = held + np.where(masks[pick], share, 0.0)
                total += share
        if total > 0:
            voted[n] = (held > 0) & (held / total >= threshold)
    return voted


def vote(masks, picks, weights, **options):
    return dense_of(weighted_vote(runs_of(masks), np.array(picks), np.array(weights, dtype=np.float64), **options))


def test_known_answer():
    # The shares of two pixels: .9 + .3 of 1.8, and .6 of 1.8.
    masks = np.array([[[1, 0]], [[0, 1]], [[1, 0]]], dtype=np.bool_)
    assert vote(masks, [[0, 1, 2]], [[0.9, 0.6, 0.3]]).tolist() == [[[True, False]]]
    assert vote(masks, [[0, 1, 2]], [[0.9, 0.6, 0.3]], threshold=1 / 3).tolist() == [[[True, True]]]
    assert vote(masks, [[0, 1, 2]], [[0.9, 0.6, 0.3]], threshold=0.7).tolist() == [[[False, False]]]


def test_exactly_half_the_weight_is_enough():
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], dtype=np.bool_)
    assert vote(masks, [[0, 1]], [[0.3, 0.3]]).tolist() == [[[True, True, True]]]
    assert vote(masks, [[0, 1]], [[0.3, 0.3000001]]).tolist() == [[[False, True, True]]]


def test_no_rounding_is_left_of_masks_that_have_ended():
    # .3 + .6 - .6 is less than .3: after the second mask's end the first alone would miss a threshold it reaches.
    masks = np.zeros((2, 1, 9), dtype=np.bool_)
    masks[0], masks[1, 0, 2:4] = True, True
    assert 0.3 + 0.6 - 0.6 < 0.3
    assert vote(masks, [[0, 1]], [[0.3, 0.6]], threshold=0.3 / (0.3 + 0.6)).all()


def test_each_output_has_its_own_voters():
    masks = blobs(6, 20, 30, seed=4)
    picks = np.array([[0, 1, 2], [5, -1, -1], [-1, -1, -1], [3, -1, 4], [0, 1, 2], [1, 1, 2]])
    weights = np.array([[1, 1, 1], [0.2, 9, 9], [1, 1, 1], [2, 5, 1], [0, 0, 0], [1, 1, 1]], dtype=np.float64)
    voted = vote(masks, picks, weights)
    np.testing.assert_array_equal(voted, slow_vote(masks, picks, weights, 0.5))
    np.testing.assert_array_equal(voted[1], masks[5])
    assert not voted[2].any()  # nobody was picked
    np.testing.assert_array_equal(voted[3], masks[3])
    assert not voted[4].any()  # nobody has weight
    np.testing.assert_array_equal(voted[5], masks[1])


def test_a_threshold_of_0_is_the_union_of_those_with_weight():
    masks = blobs(3, 20, 30, seed=5)
    voted = vote(masks, [[0, 1, 2]], [[1e-9, 0, 7]], threshold=0)
    np.testing.assert_array_equal(voted[0], masks[0] | masks[2])


def test_nothing_to_vote_on():
    none = Runs.empty(4, 5)
    assert len(weighted_vote(none, np.zeros((0, 3), np.int64), np.zeros((0, 3)))) == 0
    assert weighted_vote(none, np.full((2, 3), -1), np.ones((2, 3))).offsets.tolist() == [0, 0, 0]
    assert weighted_vote(none, np.zeros((2, 0), np.int64), np.zeros((2, 0))).offsets.tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=300)
@given(small_masks(), st.data())
def test_equals_brute_force_on_masks_of_any_kind(masks, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    picks = rng.integers(-1, len(masks), (4, 5)) if len(masks) else np.full((4, 5), -1)
    weights = rng.choice([0.0, 0.1, 0.2, 0.3, 0.6, 1.0], (4, 5))
    threshold = data.draw(st.sampled_from([0.0, 0.3, 0.5, 2 / 3, 1.0]))
    expected = slow_vote(masks, picks, weights, threshold)
    np.testing.assert_array_equal(vote(masks, picks, weights, threshold=threshold), expected)


def test_equals_brute_force_with_many_voters():
    masks = blobs(70, 60, 50, sides=(20, 60), noise=0.3)
    rng = np.random.default_rng(0)
    picks, weights = rng.integers(-1, 70, (30, 70)), rng.uniform(0, 1, (30, 70))
    np.testing.assert_array_equal(vote(masks, picks, weights), slow_vote(masks, picks, weights, 0.5))


def test_leaves_its_inputs_untouched():
    runs, picks, weights = runs_of(blobs(3, 20, 20)), np.array([[0, 1, -1]]), np.array([[0.5, 0.25, 7]])
    before = [array.copy() for array in (runs.spans, runs.offsets, picks, weights)]
    weighted_vote(runs, picks, weights)
    for array, old in zip((runs.spans, runs.offsets, picks, weights), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_picks_and_weights_that_do_not_fit_are_refused():
    runs = Runs.empty(4, 5, count=2)
    with pytest.raises(InputError, match=r"^picks: expected -1\.\.1; got 0\.\.2$"):
        weighted_vote(runs, np.array([[0, 2]]), np.ones((1, 2)))
    with pytest.raises(InputError, match=r"^weights: expected one for each pick .* got \(1, 3\) for \(1, 2\)$"):
        weighted_vote(runs, np.array([[0, 1]]), np.ones((1, 3)))
