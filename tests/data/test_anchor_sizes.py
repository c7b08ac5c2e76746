"""k-means over objects' sizes: known answers, scipy's own k-means, and the empty cluster."""

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from tis_ray.data.anchor_sizes import SPACES, cluster_sizes, k_means, nearest_by_iou
from tis_ray.errors import ConfigError

SCALES = np.array([10.0, 12, 14, 50, 55, 60, 280, 300])
FIRST = np.array([10.0, 50, 300])
LOG_CENTRES = [11.8878, 54.8481, 289.8275]  # geometric means


def squares(sides):
    return np.stack([sides, sides], axis=1)


def test_known_centres_of_sizes():
    centres, labels = k_means(SCALES[:, None], FIRST[:, None])
    np.testing.assert_allclose(centres[:, 0], [12, 55, 290])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_known_centres_of_logarithms():
    centres, _ = k_means(np.log(SCALES)[:, None], np.log(FIRST)[:, None])
    np.testing.assert_allclose(np.exp(centres[:, 0]), LOG_CENTRES, atol=1e-4)


@pytest.mark.parametrize(("space", "sizes"), [("linear", [12, 55, 290]), ("log", LOG_CENTRES), ("iou", [12, 55, 290])])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_known_objects_in_any_order_are_three_clusters(space, sizes, seed):
    clusters = cluster_sizes(squares(np.random.default_rng(seed).permutation(SCALES)), count=3, space=space)
    np.testing.assert_allclose(clusters.sizes, sizes, atol=1e-4)
    np.testing.assert_allclose(clusters.shares, [3 / 8, 3 / 8, 2 / 8])


@pytest.mark.parametrize("space", ["linear", "log"])
def test_many_objects_are_clustered_as_scipy_does(space):
    sides = np.random.default_rng(3).lognormal(3, 1, (5000, 2))
    scales = np.sqrt(sides.prod(axis=1))
    points = np.log(scales) if space == "log" else scales
    first = np.sort(points)[[500, 1500, 2500, 3500, 4500]]  # the middles of five equal parts
    expected, _ = kmeans2(points, first, iter=100, minit="matrix")
    found = cluster_sizes(sides, count=5, space=space).sizes
    np.testing.assert_allclose(found, np.exp(expected) if space == "log" else expected, rtol=1e-9)


def test_a_box_belongs_to_the_centre_of_the_highest_iou():
    rng = np.random.default_rng(0)
    boxes, centres = rng.uniform(1, 100, (200, 2)), rng.uniform(1, 100, (6, 2))
    labels, distances = nearest_by_iou(boxes, centres)
    shared = np.minimum(boxes[:, None], centres).prod(axis=2)
    ious = shared / (boxes.prod(axis=1)[:, None] + centres.prod(axis=1) - shared)
    assert labels.tolist() == ious.argmax(axis=1).tolist()
    np.testing.assert_allclose(distances, 1 - ious.max(axis=1))


def test_boxes_of_one_area_and_two_forms_are_clusters_by_iou_alone():
    boxes = np.array([(40.0, 10), (41, 10), (10, 40), (10, 41), (20, 20)])
    assert cluster_sizes(boxes[:4], count=2, space="iou").shares.tolist() == [0.5, 0.5]
    centres, labels = k_means(boxes, boxes[[0, 2, 4]], nearest=nearest_by_iou)
    np.testing.assert_allclose(centres, [(40.5, 10), (10, 40.5), (20, 20)])
    assert labels.tolist() == [0, 0, 1, 1, 2]


def test_an_empty_cluster_starts_anew_at_the_farthest_point():
    points = np.array([1.0, 1, 1, 1, 5, 90])[:, None]
    centres, labels = k_means(points, np.full((3, 1), 1.0))
    assert sorted(centres[:, 0].tolist()) == [1, 5, 90]
    assert np.bincount(labels, minlength=3).min() == 1


def test_the_point_that_fills_a_cluster_is_none_that_has_a_centre_already():
    """12 is farthest from its first centre, but its cluster's mean is at 12 after one step."""
    centres, labels = k_means(np.array([12.0, 50, 51])[:, None], np.array([3.0, 50, 500])[:, None])
    assert sorted(centres[:, 0].tolist()) == [12, 50, 51]
    assert sorted(labels.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("space", SPACES)
def test_as_many_clusters_as_different_sizes_are_those_sizes(space):
    sides = squares(np.array([4.0] * 50 + [7, 7, 30, 31, 500]))
    clusters = cluster_sizes(sides, count=5, space=space)
    np.testing.assert_allclose(clusters.sizes, [4, 7, 30, 31, 500])
    np.testing.assert_allclose(clusters.shares * 55, [50, 2, 1, 1, 1])
    with pytest.raises(ConfigError, match=r"^levels: expected 1 to 5, as many as there are different sizes; got 6$"):
        cluster_sizes(sides, count=6, space=space)


def test_sizes_that_differ_by_rounding_are_one():
    sides = np.array([(30.0, 10.0), (30.0 * (1 + 1e-15), 10.0), (10.0, 30.0)])
    with pytest.raises(ConfigError, match="expected 1 to 1,"):
        cluster_sizes(sides, count=2)


def test_inputs_are_left_as_they_are():
    sides = squares(SCALES)
    before = sides.copy()
    for space in SPACES:
        cluster_sizes(sides, count=3, space=space)
    assert np.array_equal(sides, before)


def test_an_unknown_space_is_refused():
    with pytest.raises(ConfigError, match=r"^space: expected one of linear, log, iou; got 'cubic'$"):
        cluster_sizes(squares(SCALES), count=3, space="cubic")
