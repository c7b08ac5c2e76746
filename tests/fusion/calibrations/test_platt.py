"""Platt scaling: known answers, and a fit no worse than any on a fine grid."""

import numpy as np
import pytest

from tis_ray.fusion.calibrations.platt import calibrate, fit


@pytest.mark.parametrize(
    ("slope", "offset", "score", "expected"),
    [(1, 0, 0.3, 0.3), (0.5, 0, 0.9, 0.75), (1, np.log(3), 0.5, 0.75), (2, -np.log(9), 0.75, 0.5), (0, 0, 0.9, 0.5)],
)
def test_known_answers(slope, offset, score, expected):
    scores = np.array([score], dtype=np.float32)
    assert calibrate(scores, slope=slope, offset=offset)[0] == pytest.approx(expected, abs=1e-6)


def nll(scores, hits, slope, offset):
    """With Platt's targets, by the formula, from the probabilities themselves."""
    p = 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + offset)))
    hit, miss = (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2)
    targets = np.where(hits, hit, miss)
    return -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 1.0), (1.0, 0.0), (1.7, -2.5)])
def test_finds_the_likeliest_line(slope, offset):
    rng = np.random.default_rng(4)
    scores = rng.uniform(0.01, 0.99, 2000).astype(np.float32)
    hits = rng.random(2000) < calibrate(scores, slope=slope, offset=offset)
    found = fit(scores, hits)
    exact = scores.astype(np.float64)
    best = nll(exact, hits, **found)
    near = [
        (found["slope"] + a, found["offset"] + b)
        for a in np.linspace(-0.2, 0.2, 21)
        for b in np.linspace(-0.2, 0.2, 21)
    ]
    far = [(a, b) for a in np.linspace(1 / 32, 3, 31) for b in np.linspace(-4, 4, 31)]
    assert best <= min(nll(exact, hits, *line) for line in near + far) + 1e-9
    assert found == pytest.approx({"slope": slope, "offset": offset}, abs=0.3)


def test_is_finite_where_scores_part_hits_from_misses():
    scores = np.array([0.9] * 10 + [0.1] * 10, dtype=np.float32)
    hits = np.array([True] * 10 + [False] * 10)
    found = fit(scores, hits)
    np.testing.assert_allclose(calibrate(scores, **found), np.where(hits, 11 / 12, 1 / 12), atol=1e-4)


def test_never_turns_the_order_around():
    scores = np.array([0.9] * 10 + [0.1] * 10, dtype=np.float32)
    assert fit(scores, scores < 0.5)["slope"] == pytest.approx(1 / 32)
