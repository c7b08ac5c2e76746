"""The default mask policy: each keeps its own, and who comes without one is lent one."""

from dataclasses import replace

import numpy as np
import pytest

from tests.dense_masks import dense_of, runs_of
from tis_ray.fusion.mask_select import best
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks

BOXES = np.array([[0, 0, 4, 4], [0, 0, 4, 5], [20, 20, 30, 30], [20, 20, 30, 29]], np.float32)


def found(masks=True):
    """Two objects, each seen by two views; the patches tell who it was."""
    patches = np.array([0.2, 0.4, 0.6, 0.8], np.float16)[:, None, None] * np.ones((1, 2, 2), np.float16)
    held = BoxMasks(BOXES, patches) if masks else None
    return Instances.of(BOXES, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1], held, source=[0, 1, 0, 1])


def without(instances, *positions):
    """The same, but that these instances have no mask."""
    present = ~np.isin(np.arange(len(instances)), positions)
    return replace(instances, masks=replace(instances.masks, present=present))


def test_each_instance_keeps_its_own_mask():
    pool = found()
    selected = best.select(pool[[1]], Pool.of(pool))
    np.testing.assert_array_equal(selected.masks.boxes, BOXES[[1]])
    np.testing.assert_array_equal(selected.masks.probabilities, pool.masks.probabilities[[1]])


def test_one_without_a_mask_is_lent_that_of_the_nearest_of_its_class_where_it_is():
    bare = without(found(), 0, 2)
    pool = replace(Pool.of(bare), masked=bare[bare.masks.present])
    masks = best.select(bare[[0, 1, 2]], pool).masks
    assert masks.present.all()
    np.testing.assert_array_equal(masks.boxes, BOXES[[1, 1, 3]])
    assert masks.probabilities[:, 0, 0].tolist() == np.float16([0.4, 0.4, 0.8]).tolist()


def test_boxes_of_one_member_are_lent_masks_of_another():
    boxes, pool = found(masks=False), replace(Pool.of(found(masks=False)), masked=found()[[1, 3]])
    masks = best.select(boxes[[0, 2]], pool).masks
    assert masks.probabilities[:, 0, 0].tolist() == np.float16([0.4, 0.8]).tolist()


@pytest.mark.parametrize(("iou_threshold", "present"), [(0.8, True), (0.81, False)])
def test_the_iou_from_which_a_mask_is_lent_may_be_set(iou_threshold, present):
    pool = replace(Pool.of(found(masks=False)), masked=found()[[1]])
    masks = best.select(found(masks=False)[[0]], pool, iou_threshold=iou_threshold).masks
    assert masks.present.tolist() == [present]


def test_masks_that_are_pixels_are_lent_alike():
    dense = np.zeros((2, 40, 40), bool)
    dense[0, :5, :4] = dense[1, 20:29, 20:30] = True
    lenders = replace(found()[[1, 3]], masks=RunMasks(runs_of(dense)))
    stranger = Instances.of([[34, 34, 39, 39]], [0.9], [0])
    fused = Instances.concatenate([found(masks=False)[[2, 0]], stranger])
    masks = best.select(fused, replace(Pool.of(fused), masked=lenders)).masks
    assert masks.present.tolist() == [True, True, False]
    np.testing.assert_array_equal(dense_of(masks.to_runs(40, 40)), [dense[1], dense[0], np.zeros((40, 40), bool)])
