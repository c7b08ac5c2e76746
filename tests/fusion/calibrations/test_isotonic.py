"""Isotonic regression: a curve worked out by hand, scipy's blocks, and what happens at the ends."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from tis_ray.fusion.calibrations.isotonic import MAX_BLOCKS, calibrate, fit


def test_a_curve_worked_out_by_hand():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.6, 0.6], dtype=np.float32)
    hits = np.array([0, 1, 1, 0, 1, 1, 0], dtype=bool)
    # Shares 0, 1, 1, 0, 2/3: the miss at 0.4 is joined with the hits before it to 2/3, and 0.6 has the same.
    # The first block has no hit: half of one in two. The centre of the other is (0.9 + 1.8) / 6 = 0.45.
    np.testing.assert_allclose(fit(scores, hits)["knots"], [[0, 0], [0.1, 0.25], [0.45, 2 / 3], [1, 1]], rtol=2e-6)


def test_knots_are_the_centres_of_scipys_blocks():
    rng = np.random.default_rng(5)
    scores = rng.random(400).astype(np.float32)
    hits = rng.random(400) < scores**2
    order = np.argsort(scores)
    blocks = isotonic_regression(hits[order].astype(float)).blocks
    parts = np.split(order, blocks[1:-1])
    assert 2 < len(parts) <= MAX_BLOCKS
    knots = np.array(fit(scores, hits)["knots"])
    assert len(knots) == len(parts) + 2
    np.testing.assert_allclose(knots[1:-1, 0], [scores[part].mean() for part in parts], rtol=1e-5)
    np.testing.assert_allclose(knots[2:-2, 1], [hits[part].mean() for part in parts[1:-1]], rtol=1e-5)
    inner = calibrate(knots[1:-1, 0].astype(np.float32), knots=tuple(map(tuple, knots)))
    np.testing.assert_allclose(inner, knots[1:-1, 1], rtol=1e-4)


def test_blocks_beyond_the_limit_are_joined():
    rng = np.random.default_rng(6)
    scores = rng.random(200_000).astype(np.float32)
    hits = rng.random(len(scores)) < scores
    knots = np.array(fit(scores, hits)["knots"])
    assert len(knots) == MAX_BLOCKS + 2
    np.testing.assert_allclose(knots[:, 1], knots[:, 0], atol=0.02)


def test_blocks_without_a_hit_or_a_miss_leave_room_at_both_ends():
    scores = np.array([0.1] * 4 + [0.9] * 4, dtype=np.float32)
    hits = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
    low, high = calibrate(np.array([0.1, 0.9], np.float32), knots=tuple(map(tuple, fit(scores, hits)["knots"])))
    assert (low, high) == (pytest.approx(0.5 / 5), pytest.approx(1 - 0.5 / 5))


def test_one_block_is_a_ray():
    scores = np.array([0.4, 0.8], dtype=np.float32)
    knots = fit(scores, np.array([True, False]))["knots"]
    np.testing.assert_allclose(knots, [[0, 0], [0.6, 0.5], [1, 5 / 6]], rtol=2e-6)


def test_scores_at_the_very_ends():
    scores = np.array([0, 0, 1, 1], dtype=np.float32)
    assert fit(scores, np.array([True, False, True, True]))["knots"] == [
        [0.0, 0.5],
        [1.0, pytest.approx(5 / 6, abs=1e-6)],
    ]
    assert fit(np.zeros(4, np.float32), np.array([True, False, False, False]))["knots"] == [[0.0, 0.25], [1.0, 1.0]]


def test_is_level_beyond_the_knots_it_is_given():
    scores = np.array([0, 0.2, 0.3, 0.4, 1], dtype=np.float32)
    calibrated = calibrate(scores, knots=((0.2, 0.1), (0.4, 0.5)))
    np.testing.assert_allclose(calibrated, [0.1, 0.1, 0.3, 0.5, 0.5], rtol=1e-6)
