"""Calibration error and likelihood by hand."""

import numpy as np
import pytest

from tis_ray.evaluation.reliability import reliability


def scores(*values):
    return np.array(values, dtype=np.float32)


def test_two_bins_by_hand():
    found = reliability(scores(0.1, 0.3, 0.9, 0.7, 0.8), np.array([0, 1, 1, 1, 0], dtype=bool), num_bins=2)
    np.testing.assert_array_equal(found.counts, [2, 3])
    np.testing.assert_allclose(found.mean_scores, [0.2, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.hit_rates, [0.5, 2 / 3], rtol=1e-6)
    assert found.ece == pytest.approx((2 * 0.3 + 3 * (0.8 - 2 / 3)) / 5, abs=1e-6)
    assert found.nll == pytest.approx(-np.log([0.9, 0.3, 0.9, 0.7, 0.2]).mean(), abs=1e-6)


def test_scores_of_zero_and_one_cost_what_the_clamp_allows():
    found = reliability(scores(0, 1), np.array([True, False]))
    assert found.nll == pytest.approx(-np.log(1e-6))
    assert found.ece == pytest.approx(1)
    np.testing.assert_array_equal(found.counts[[0, -1]], [1, 1])


def test_a_score_on_an_edge_belongs_to_the_bin_above():
    np.testing.assert_array_equal(reliability(scores(0.5), np.array([True]), num_bins=2).counts, [0, 1])


def test_nothing_found_has_no_measures():
    found = reliability(scores(), np.zeros(0, dtype=bool))
    assert np.isnan([found.ece, found.nll]).all()
    assert not found.counts.any()
