"""Which scales an object's mask is taken from: known answers, and what counts as one scale."""

import numpy as np
import pytest

from tis_ray.fusion.mask_select import scale_ratio
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

VIEWS = [View("a", 400), View("a", 800), View("a", 1400)]
HW = (800, 800)
BOX = [100, 100, 400, 400]
VALUES = {400: 0.125, 800: 0.25, 1400: 0.5}  # what the masks of each scale hold


def pool_of(views, *, filled=1.0, label=0):
    """One detection of the same object from each view. Its patch is `filled` to that share with 1, to tell rho, and
    its last cell holds the number of its scale."""
    boxes = np.array([BOX] * len(views), np.float32)
    patches = np.zeros((len(views), 20, 20), np.float16)
    patches.reshape(len(views), -1)[:, : round(400 * filled)] = 1
    for patch, view in zip(patches, views, strict=True):
        patch[-1, -1] = VALUES.get(view.scale, 1.0)
    return Instances.of(
        boxes, [0.9] * len(views), [label] * len(views), BoxMasks(boxes, patches), source=range(len(views))
    )


def chosen(views, *, image_hw=HW, own=0, **options):
    """The mean of the numbers of the scales that were averaged."""
    filled = options.pop("filled", 1.0)
    pool = pool_of(views, filled=filled)
    return float(
        scale_ratio.select(pool[[own]], Pool.of(pool, views=views, image_hw=image_hw), **options).masks.probabilities[
            0, -1, -1
        ]
    )


@pytest.mark.parametrize(
    ("filled", "expected"),
    [(0.1, [2.2395, 1.2395, 0.4321]), (1.0, [0.5785, 0.4215, 1.2288]), (0.0, [0.5785, 0.4215, 1.2288])],
)
def test_known_distances_and_an_empty_mask_counts_as_a_full_one(filled, expected):
    found = scale_ratio.distances(np.array([300.0]), np.array([filled]), np.array([0.5, 1, 1.75]))
    np.testing.assert_allclose(found, [expected], atol=1e-4)


def test_a_box_without_area_is_infinitely_far_from_no_scale():
    assert np.isfinite(scale_ratio.distances(np.zeros(1), np.ones(1), np.array([0.5, 2.0]))).all()


@pytest.mark.parametrize(
    ("filled", "k", "scales"),
    [
        pytest.param(0.1, 1, [1400], id="thin: the largest scale"),
        pytest.param(0.1, 2, [1400, 800], id="thin: then the next"),
        pytest.param(1.0, 1, [800], id="full: the image's own"),
        pytest.param(1.0, 2, [800, 400], id="full: then the smaller"),
        pytest.param(1.0, 3, [800, 400, 1400], id="all"),
        pytest.param(1.0, 9, [800, 400, 1400], id="more than there are"),
        pytest.param(0.0, 1, [800], id="empty: as if full"),
    ],
)
def test_takes_the_scales_nearest_to_the_best_size(filled, k, scales):
    assert chosen(VIEWS, filled=filled, k=k) == pytest.approx(np.mean([VALUES[scale] for scale in scales]), abs=1e-3)


def test_two_scales_unless_said_otherwise():
    assert chosen(VIEWS) == pytest.approx((VALUES[800] + VALUES[400]) / 2, abs=1e-3)


def test_mirror_images_and_other_members_share_their_scale():
    views = sorted([*VIEWS, View("a", 800, True), View("b", 800)])
    pool = pool_of(views)
    patches = pool.masks.probabilities
    at_800 = [i for i, view in enumerate(views) if view.scale == 800]
    patches[at_800, -1, -1] = [0.25, 0.5, 0.75]
    mask = scale_ratio.select(pool[[0]], Pool.of(pool, views=views, image_hw=HW), k=1).masks.probabilities
    assert mask[0, -1, -1] == 0.5
    np.testing.assert_array_equal(mask[0, :-1], patches[0, :-1])


def test_a_scale_that_missed_the_object_gives_way_to_the_next():
    pool = pool_of(VIEWS)
    found = pool[[0, 2]]  # not at 800, which suits best
    mask = scale_ratio.select(found[[1]], Pool.of(found, views=VIEWS, image_hw=HW), k=1).masks.probabilities
    assert mask[0, -1, -1] == VALUES[400]


def test_a_detection_of_another_class_is_none_of_the_object():
    pool = Instances.concatenate([pool_of(VIEWS)[[0, 2]], pool_of(VIEWS, label=1)[[1]]])
    mask = scale_ratio.select(pool[[1]], Pool.of(pool, views=VIEWS, image_hw=HW), k=1).masks.probabilities
    assert mask[0, -1, -1] == VALUES[400]


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(View("a", 400, crop=(0, 0, 400, 400), crop_name="part"), id="crop"),
        pytest.param(View("a", 400, tile=(400, 400, 100), crop_name="grid"), id="tiles"),
        pytest.param(View("a", 9999, max_long_edge=800), id="longer edge capped"),
    ],
)
def test_a_scale_is_the_factor_by_which_a_view_resizes(view):
    views = [View("a", 1400), view]  # the view sees the object at its own size, which suits best
    pool = pool_of(views)
    pool.masks.probabilities[:, -1, -1] = [1.0, 0.25]
    assert (
        scale_ratio.select(pool[[0]], Pool.of(pool, views=views, image_hw=HW), k=1).masks.probabilities[0, -1, -1]
        == 0.25
    )


def test_the_share_filled_is_read_from_the_instances_own_mask():
    pool = pool_of(VIEWS)
    patches = pool.masks.probabilities.copy()
    patches[0, 2:] = 0  # a tenth
    patches[:, -1, -1] = [VALUES[view.scale] for view in VIEWS]
    pool = Instances.of(pool.boxes, pool.scores, pool.labels, BoxMasks(pool.boxes, patches), source=range(3))
    own = [
        scale_ratio.select(pool[[i]], Pool.of(pool, views=VIEWS, image_hw=HW), k=1).masks.probabilities[0, -1, -1]
        for i in (0, 1)
    ]
    assert own == [VALUES[1400], VALUES[800]]


def test_masks_count_by_score_where_asked():
    pool = pool_of(VIEWS).with_scores(np.array([0.1, 0.3, 0.9]))
    mask = scale_ratio.select(pool[[0]], Pool.of(pool, views=VIEWS, image_hw=HW), weights="score").masks.probabilities
    assert mask[0, -1, -1] == pytest.approx((0.1 * VALUES[400] + 0.3 * VALUES[800]) / 0.4, abs=1e-3)
