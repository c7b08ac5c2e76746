"""Temperature: known answers, and a fit no worse than any on a fine grid."""

import numpy as np
import pytest

from tis_ray.fusion.calibrations.temperature import calibrate, fit


@pytest.mark.parametrize(
    ("temperature", "score", "expected"),
    [(2, 0.9, 0.75), (0.5, 0.6, 0.692308), (1, 0.3, 0.3), (7, 0.5, 0.5), (2, 0.0, 0.000999), (2, 1.0, 0.999001)],
)
def test_known_answers(temperature, score, expected):
    scores = np.array([score], dtype=np.float32)
    assert calibrate(scores, temperature=temperature)[0] == pytest.approx(expected, abs=1e-6)


def nll(scores, hits, temperature):
    """By the formula, from the odds."""
    odds = (scores / (1 - scores)) ** (1 / temperature)
    return np.mean(np.where(hits, np.log1p(1 / odds), np.log1p(odds)))


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_finds_the_likeliest_temperature(true_temperature):
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.01, 0.99, 3000).astype(np.float32)
    hits = rng.random(3000) < calibrate(scores, temperature=true_temperature)
    found = fit(scores, hits)["temperature"]
    grid = np.geomspace(1 / 32, 32, 3001)
    losses = [nll(scores.astype(np.float64), hits, temperature) for temperature in grid]
    assert found == pytest.approx(grid[np.argmin(losses)], rel=0.0025)
    assert nll(scores.astype(np.float64), hits, found) <= min(losses) + 1e-9


def test_stays_within_bounds_where_the_data_has_none():
    scores = np.array([0.9] * 10 + [0.1] * 10, dtype=np.float32)
    right = np.array([True] * 10 + [False] * 10)
    assert fit(scores, right)["temperature"] == pytest.approx(1 / 32, rel=1e-3)
    assert fit(scores, ~right)["temperature"] == pytest.approx(32, rel=1e-3)
