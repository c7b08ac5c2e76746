"""Large-scale jitter against the same done to full masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.full_masks import full, random_sample, resized
from tis_ray.data.scale_jitter import ScaleJitter, Zoom, zoom
from tis_ray.data.transforms import Labelled


def seen(side, target, factor, place):
    """Which pixels of an axis are seen and how many they become."""
    wanted = max(1, round(target * factor))
    if wanted <= target:
        return slice(0, side), wanted
    window = max(1, round(side * target / wanted))
    start = min(int(place * (side - window + 1)), side - window)
    return slice(start, start + window), target


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 6),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.floats(0.05, 4),
    st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_masks_are_those_of_full_masks(size_hw, count, target_hw, factor, place):
    sample, masks = random_sample(count, size_hw, count)
    image, annotations = zoom(*sample, target_hw, Zoom(factor, place))
    rows, height = seen(size_hw[0], target_hw[0], factor, place[0])
    columns, width = seen(size_hw[1], target_hw[1], factor, place[1])
    assert image.shape == (3, height, width)
    assert image.shape[1] <= target_hw[0]
    assert image.shape[2] <= target_hw[1]
    np.testing.assert_array_equal(
        annotations.stuff, resized(sample.annotations.stuff[None, rows, columns], (height, width))[0]
    )
    share = masks[:, rows, columns].sum((1, 2)) / masks.sum((1, 2))
    crowd = sample.annotations.crowd
    expected = resized(masks[:, rows, columns], (height, width))
    np.testing.assert_array_equal(full(annotations.masks, (height, width)), expected[annotations.labels])
    visible = np.where(crowd, share > 0, share >= 0.1)
    assert visible[annotations.labels].all()
    for label in set(np.flatnonzero(visible)) - set(annotations.labels.tolist()):
        assert not crowd[label]
        assert min(expected[label].any(1).sum(), expected[label].any(0).sum()) <= 1


def test_factor_one_is_a_plain_resize():
    sample, masks = random_sample(1, (40, 30), 4)
    image, annotations = zoom(*sample, (40, 30), Zoom(1.0, (0.5, 0.5)))
    assert torch.equal(image, sample.image)
    np.testing.assert_array_equal(full(annotations.masks, (40, 30)), masks)


@pytest.mark.parametrize(
    ("place", "corner"), [((0.0, 0.0), (0, 0)), ((0.999, 0.999), (20, 20)), ((0.0, 0.999), (0, 20))]
)
def test_a_larger_picture_is_cut_anywhere_and_shown_at_its_own_pixels(place, corner):
    """At twice the size of half the picture nothing is resized: what is seen is a window."""
    sample, _ = random_sample(2, (40, 40), 3)
    image, _ = zoom(*sample, (20, 20), Zoom(2.0, place))
    y, x = corner
    assert torch.equal(image, sample.image[:, y : y + 20, x : x + 20])


def test_objects_without_a_pixel_left_to_see_go_and_regions_to_ignore_stay():
    sample, _ = random_sample(5, (60, 60), 9)
    _, annotations = zoom(*sample, (60, 60), Zoom(0.02, (0, 0)))
    assert annotations.crowd.all() or (annotations.boxes[~annotations.crowd, 2:] >= 1).all()
    assert annotations.crowd.sum() == sample.annotations.crowd.sum()
    nothing = Labelled(sample.image, sample.annotations[[]])
    assert len(zoom(*nothing, (60, 60), Zoom(2.0, (0.1, 0.2))).annotations) == 0


def test_factors_come_from_all_of_the_range():
    drawn = [ScaleJitter(0.1, 2.0).draw(np.random.default_rng(i)) for i in range(300)]
    factors = [one.factor for one in drawn]
    assert 0.1 <= min(factors) < 0.2
    assert 1.9 < max(factors) <= 2
    assert ScaleJitter(0.7, 0.7).draw(np.random.default_rng(0)).factor == pytest.approx(0.7)
