"""Training scales: drawn from a list or a range, and represented by a few."""

import numpy as np
import pytest

from tis_ray.data.scales import draw_scale, standing_for


def test_a_choice_is_one_of_the_scales_by_one_number():
    scales = (640, 800, 960)
    for seed in range(5):
        left, right = np.random.default_rng(seed), np.random.default_rng(seed)
        assert draw_scale(scales, "choice", left) == scales[right.integers(3)]
        assert left.random() == right.random()


def test_a_range_holds_both_ends_and_all_between():
    chance = np.random.default_rng(0)
    drawn = {draw_scale((44, 40), "range", chance) for _ in range(200)}
    assert drawn == {40, 41, 42, 43, 44}
    assert draw_scale((9,), "range", chance) == 9


@pytest.mark.parametrize(
    ("scales", "sampling", "expected"),
    [
        ((800, 600), "choice", (800, 600)),
        ((400, 1400), "range", tuple(range(400, 1401, 100))),
        ((1400, 600, 400), "range", tuple(range(400, 1401, 100))),
        ((10, 13), "range", (10, 11, 12, 13)),
        ((800,), "range", (800,)),
    ],
)
def test_a_range_is_represented_by_scales_spread_over_it(scales, sampling, expected):
    assert standing_for(scales, sampling) == expected
