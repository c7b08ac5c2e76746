"""Masks that vote by score: who votes, what comes of it, and what an IoU of masks tells apart."""

import numpy as np
import pytest

from tests.dense_masks import dense_of, runs_of
from tis_ray.fusion.mask_select import vote
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks

HW = (100, 100)
BOX = [10, 20, 30, 40]


def instances_of(rows, *, size=4):
    """From (box, score, label, source, probability) rows; each patch holds one probability all over its box."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    patches = np.array([row[4] for row in rows], np.float16)[:, None, None] * np.ones((1, size, size), np.float16)
    scores, labels, sources = ([row[i] for row in rows] for i in (1, 2, 3))
    return Instances.of(boxes, scores, labels, BoxMasks(boxes, patches), source=sources)


def select(instances, pool, **options):
    return vote.select(instances, Pool.of(pool, image_hw=HW), **options)


def test_known_answer():
    patches = np.array([[[0.9, 0.2]] * 2, [[0.6, 0.4]] * 2, [[0.3, 0.8]] * 2], np.float16)
    boxes = np.array([BOX] * 3, np.float32)
    pool = Instances.of(boxes, [0.9, 0.6, 0.3], [0] * 3, BoxMasks(boxes, patches), source=[0, 0, 0])
    mean = select(pool[[0]], pool).masks.probabilities
    np.testing.assert_allclose(mean, [[[0.7, 0.366667]] * 2], atol=1e-3)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([(BOX, 0.5, 0, 0, 0.5)], 0.75, id="two of one view"),
        pytest.param([(BOX, 1.0, 0, 1, 0.25)], 0.5, id="another view, twice the score"),
        pytest.param([(BOX, 0.0, 0, 1, 0.25)], 1.0, id="one that scores 0"),
        pytest.param([(BOX, 0.9, 1, 1, 0.0)], 1.0, id="another class"),
        pytest.param([([10, 20, 30, 29.9], 0.9, 0, 1, 0.0)], 1.0, id="an IoU just below one half"),
    ],
)
def test_all_of_the_class_that_overlap_enough_vote_by_score(others, expected):
    pool = instances_of([(BOX, 0.5, 0, 0, 1.0), *others])
    assert select(pool[[0]], pool).masks.probabilities[0, 1:3, 1:3].tolist() == np.full((2, 2), expected).tolist()


def test_voters_that_all_score_0_count_alike():
    pool = instances_of([(BOX, 0.0, 0, 0, 1.0), (BOX, 0.0, 0, 1, 0.5)])
    assert (select(pool[[0]], pool).masks.probabilities == 0.75).all()


def test_masks_are_seen_where_their_own_boxes_lie():
    pool = instances_of([(BOX, 0.5, 0, 0, 1.0), ([10, 20, 30, 30], 0.5, 0, 1, 1.0)], size=20)
    masks = select(pool[[0]], pool).masks
    np.testing.assert_array_equal(masks.boxes, [BOX])
    np.testing.assert_array_equal(masks.probabilities[0, [2, 8, 11, 18], 10], [1, 1, 0.5, 0.5])


def two_diagonals():
    """Thin things that cross: the same box, hardly a pixel in common; and the first of them once more."""
    falling = sum(np.eye(20, k=k, dtype=np.float16) for k in (-1, 0, 1))
    boxes = np.array([BOX] * 3, np.float32)
    patches = np.stack([falling[::-1], falling, falling[::-1] * np.float16(0.75)])
    return Instances.of(boxes, [0.9, 0.8, 0.9], [0] * 3, BoxMasks(boxes, patches), source=[0, 1, 1])


def test_an_iou_of_masks_tells_objects_apart_that_boxes_do_not():
    pool = two_diagonals()
    by_box = select(pool[[0]], pool).masks.probabilities[0]
    by_mask = select(pool[[0]], pool, iou="mask").masks.probabilities[0]
    assert np.diag(by_box).min() > 0.2
    np.testing.assert_array_equal(by_mask, pool.masks.probabilities[0] * np.float16(0.875))


@pytest.mark.parametrize("kind", ["no masks", "absent", "without a pixel"])
def test_one_that_has_no_pixel_to_compare_goes_by_its_box(kind):
    pool = two_diagonals()
    masks = BoxMasks.absent(pool.boxes[:1]) if kind == "absent" else None
    if kind == "without a pixel":
        masks = BoxMasks(pool.boxes[:1], np.zeros((1, 20, 20), np.float16))
    fused = Instances.of([BOX], [0.9], [0], masks)
    by_box, by_mask = select(fused, pool), select(fused, pool, iou="mask")
    np.testing.assert_array_equal(by_mask.masks.probabilities, by_box.masks.probabilities)
    assert by_mask.masks.present.all()


def test_an_iou_of_masks_of_another_class_does_not_count():
    pool = two_diagonals()
    pool.labels[:] = [1, 1, 0]
    masks = select(pool[[0, 2]], pool, iou="mask").masks.probabilities
    np.testing.assert_array_equal(masks, pool.masks.probabilities[[0, 2]])


@pytest.mark.parametrize("iou", ["box", "mask"])
def test_masks_that_are_pixels_vote_by_score(iou):
    dense = np.zeros((3, *HW), bool)
    dense[:, 20:40, 10:25] = True
    dense[0, 20:40, 25:30] = True
    dense[1:, 40:42, 10:25] = True
    pool = Instances.of([BOX] * 3, [0.9, 0.3, 0.5], [0] * 3, RunMasks(runs_of(dense)), source=[0, 1, 1])
    (mask,) = dense_of(select(pool[[1]], pool, iou=iou).masks.to_runs(*HW))
    np.testing.assert_array_equal(mask, dense[0])  # 0.9 of 1.7 outvotes 0.8 of it
