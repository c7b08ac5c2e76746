"""Resampling images: the fast AP against a plain one, and an interval that behaves like one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.evaluation.bootstrap import (
    ClassMatches,
    average_precision,
    class_matches,
    class_means,
    class_samples,
    draws,
    percentile_interval,
)


def _matches(seed: int, *, images: int = 5, found: int = 20, thresholds: int = 3) -> ClassMatches:
    rng = np.random.default_rng(seed)
    state = rng.integers(0, 3, (thresholds, found))  # 0 false, 1 true, 2 ignored
    positives = rng.integers(0, 2, images) + np.bincount(rng.integers(0, images, found), minlength=images)
    return ClassMatches(state == 1, state == 2, rng.integers(0, images, found), positives)


def _plain_ap(matches: ClassMatches, times) -> float:
    """Walk down the scores, one threshold at a time, every drawn copy of a prediction on its own."""
    total = sum(int(p) * int(t) for p, t in zip(matches.positives, times, strict=True))
    if total == 0:
        return float("nan")
    areas = []
    for found, ignored in zip(matches.found, matches.ignored, strict=True):
        true = false = 0
        points = []
        for is_true, is_ignored, image in zip(found, ignored, matches.image, strict=True):
            for _ in range(times[image]):
                true += bool(is_true)
                false += not is_true and not is_ignored
                points.append((true / total, true / (true + false) if true else 0.0))
        recalls = np.linspace(0, 1, 101)
        areas.append(np.mean([max((p for r, p in points if r >= recall), default=0.0) for recall in recalls]))
    return float(np.mean(areas))


@given(seed=st.integers(0, 10_000), found=st.integers(0, 30))
def test_ap_of_a_draw_equals_the_plain_walk(seed, found):
    matches = _matches(seed, found=found)
    times = draws(5, num_samples=1, seed=seed)[0]
    assert average_precision(matches, times) == pytest.approx(_plain_ap(matches, times), abs=1e-12, nan_ok=True)


def test_a_class_not_drawn_is_left_out_of_the_mean():
    one = ClassMatches(np.ones((1, 1), bool), np.zeros((1, 1), bool), np.array([0]), np.array([1, 0]))
    other = ClassMatches(np.zeros((1, 0), bool), np.zeros((1, 0), bool), np.zeros(0, int), np.array([0, 1]))
    samples = class_means(class_samples([one, other], np.array([[2, 0], [0, 2], [1, 1]])))
    assert samples == pytest.approx([1.0, 0.0, 0.5])
    assert np.isnan(class_means(class_samples([one], np.array([[0, 2]])))).all()
    assert np.isnan(class_means(class_samples([], np.array([[1, 1]])))).all()


def test_draws_hold_as_many_images_as_the_set_and_repeat_with_their_seed():
    times = draws(7, num_samples=100, seed=3)
    assert times.shape == (100, 7)
    assert (times.sum(axis=1) == 7).all()
    assert np.array_equal(times, draws(7, num_samples=100, seed=3))
    assert not np.array_equal(times, draws(7, num_samples=100, seed=4))


def test_matches_come_sorted_by_score_with_ties_in_image_order():
    def entry(scores, matches, ignore, gt_ignore):
        return {"dtScores": scores, "dtMatches": matches, "dtIgnore": ignore, "gtIgnore": gt_ignore}

    images = [
        entry([0.5, 0.2], np.array([[4.0, 0.0]]), np.array([[0.0, 0.0]]), np.array([0, 1])),
        None,
        entry([0.9, 0.5], np.array([[0.0, 9.0]]), np.array([[1.0, 0.0]]), np.array([0, 0])),
    ]
    matches = class_matches(images, 1)
    assert matches.image.tolist() == [2, 0, 2, 0]
    assert matches.found.tolist() == [[False, True, True, False]]
    assert matches.ignored.tolist() == [[True, False, False, False]]
    assert matches.positives.tolist() == [1, 0, 2]


def test_interval_is_that_of_the_finite_samples():
    samples = np.concatenate([np.linspace(0, 1, 1001), [np.nan]])
    assert percentile_interval(samples) == pytest.approx((0.025, 0.975))
    assert percentile_interval(np.array([np.nan])) is None
