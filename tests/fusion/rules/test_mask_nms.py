"""Suppression by masks: known answers, and what must hold for instances with and without masks."""

import math

import numpy as np
import pytest

from tests.dense_masks import blobs, dense_of, runs_of
from tis_ray.config import FusionSection
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import mask_nms, nms
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.ops.run_algebra import bounds
from tis_ray.ops.runs import Runs
from tis_ray.views import View

# One row of 20 pixels. IoU 01 is .6, 02 is 2 of 14, 12 is 0.
THREE = RunMasks(Runs(1, 20, np.array([[0, 10], [0, 6], [8, 14]]), np.arange(4)))


def merge(instances, *, image_hw=(1, 20), **options):
    return mask_nms.merge(instances, Pool.of(instances, image_hw=image_hw), **options)


def with_masks(masks, scores, labels=0, **options):
    boxes = bounds(masks.runs).astype(np.float32)
    return Instances.of(boxes, scores, np.broadcast_to(labels, len(boxes)), masks, source=np.arange(len(boxes)))


@pytest.mark.parametrize(
    ("options", "sources", "scores"),
    [
        pytest.param({}, [0, 2], [0.9, 0.7], id="hard"),
        pytest.param({"iou_threshold": 0.6}, [0, 1, 2], [0.9, 0.8, 0.7], id="an IoU equal to the threshold stays"),
        pytest.param({"iou_threshold": 0.1}, [0], [0.9], id="hard 0.1"),
        pytest.param({"method": "linear"}, [0, 2, 1], [0.9, 0.7, 0.32], id="linear"),
        pytest.param(
            {"method": "gaussian"}, [0, 2, 1], [0.9, 0.7 * math.exp(-2 / 49), 0.8 * math.exp(-0.72)], id="gaussian"
        ),
        pytest.param({"method": "linear", "min_score": 0.5}, [0, 2], [0.9, 0.7], id="linear with min_score"),
    ],
)
def test_known_answers(options, sources, scores):
    merged = merge(with_masks(THREE, [0.9, 0.8, 0.7]), **options)
    assert merged.source.tolist() == sources
    assert merged.scores.tolist() == pytest.approx(scores, abs=1e-6)
    assert [masks.sum() for masks in dense_of(merged.masks.runs)] == [[10, 6, 6][i] for i in sources]


def test_thin_objects_that_cross_are_spared_where_boxes_would_drop_one():
    diagonal = np.eye(20, dtype=np.bool_)
    instances = with_masks(RunMasks(runs_of(np.array([diagonal, diagonal[::-1]]))), [0.9, 0.8])
    assert len(nms.merge(instances, Pool.of(instances))) == 1
    assert len(merge(instances, image_hw=(20, 20))) == 2


def test_one_object_in_two_boxes_is_found_where_boxes_would_keep_both():
    mask = np.zeros((2, 20, 20), dtype=np.bool_)
    mask[:, 2:12, 2:12] = True
    mask[1, 2, 2:20] = True  # a tail that doubles the box
    instances = with_masks(RunMasks(runs_of(mask)), [0.9, 0.8])
    tall = np.array([[2, 2, 12, 12], [2, 2, 20, 20]], np.float32)
    assert pairwise_iou(tall, tall)[0, 1] < 0.5
    assert merge(instances, image_hw=(20, 20)).source.tolist() == [0]


def test_classes_do_not_see_each_other_unless_asked():
    instances = with_masks(THREE, [0.8, 0.9, 0.7], [4, 1202, 4])
    assert merge(instances).source.tolist() == [1, 0, 2]
    assert merge(instances, class_agnostic=True).source.tolist() == [1, 2]


@pytest.mark.parametrize("method", ["hard", "linear", "gaussian"])
def test_empty_masks_are_dropped(method):
    masks = RunMasks(Runs(1, 20, np.array([[3, 5]]), np.array([0, 0, 1])))
    assert merge(with_masks(masks, [0.9, 0.8]), method=method).source.tolist() == [1]


@pytest.mark.parametrize("method", ["hard", "linear", "gaussian"])
def test_instances_without_a_mask_stay_as_they_are_and_suppress_none(method):
    masks = RunMasks(THREE.runs[[0, 0, 0, 0]], np.array([False, True, False, True]))
    merged = merge(with_masks(masks, [0.9, 0.5, 0.00001, 0.4]), method=method, iou_threshold=0.2)
    assert merged.source.tolist()[:2] == [0, 1]
    assert merged.source.tolist()[-1] == 2
    assert merged.scores.tolist()[:2] == [np.float32(0.9), 0.5]
    assert merged.masks.present.tolist()[:2] == [False, True]
    assert (3 in merged.source) == (method == "gaussian")  # the same mask: 1 - IoU is 0


def test_without_masks_nothing_is_judged_but_all_is_sorted():
    instances = Instances.of([[0, 0, 9, 9]] * 3, [0.2, 0.9, 0.2], [0] * 3, source=[0, 1, 2])
    merged = merge(instances)
    assert merged.source.tolist() == [1, 0, 2]
    assert merged.masks is None


def test_patches_are_judged_as_they_are_pasted():
    boxes = np.array([[1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9]], np.float32)
    patches = np.zeros((3, 4, 4), np.float16)
    patches[0] = patches[1, :, :2] = patches[2, :, 2:] = 1  # all of the box, its left and its right half
    instances = Instances.of(boxes, [0.7, 0.9, 0.8], [0] * 3, BoxMasks(boxes, patches), source=range(3))
    assert merge(instances, image_hw=(10, 10)).source.tolist() == [1, 2, 0]
    assert merge(instances, image_hw=(10, 10), iou_threshold=0.3).source.tolist() == [1, 2]
    kept = merge(instances, image_hw=(10, 10), iou_threshold=0.3)
    np.testing.assert_array_equal(kept.masks.probabilities, patches[1:])
    outside = Instances.of(boxes + 50, [0.7, 0.9, 0.8], [0] * 3, BoxMasks(boxes + 50, patches))
    assert len(merge(outside, image_hw=(10, 10))) == 0


def test_nothing_in_nothing_out():
    assert len(merge(Instances.empty())) == 0
    assert len(merge(Instances.empty(mask_size=4))) == 0
    assert len(merge(with_masks(RunMasks.absent(1, 20, count=0), []))) == 0


def test_more_than_1000_masks():
    masks = RunMasks(runs_of(blobs(1100, 50, 60, sides=(4, 14))))
    instances = with_masks(masks, np.linspace(1, 0, 1100))
    merged = merge(instances, image_hw=(50, 60), iou_threshold=0.2)
    assert 100 < len(merged) < 1000
    again = merge(merged, image_hw=(50, 60), iou_threshold=0.2)
    np.testing.assert_array_equal(again.source, merged.source)


def test_exact_masks_of_views_become_one_answer_in_any_order():
    mask = np.zeros((3, 12, 12), dtype=np.bool_)
    mask[0, 2:8, 2:8] = mask[1, 2:8, 2:9] = mask[2, 2:9, 2:8] = True
    views = {
        View(name, 12): with_masks(RunMasks(runs_of(mask[[i]])), [score])
        for i, (name, score) in enumerate([("a", 0.9), ("b", 0.8), ("c", 0.7)])
    }
    section = FusionSection.model_validate({"rules": ["mask_nms"], "masks": "average"})
    fused = Fuser(section).fuse(views, image_hw=(12, 12))
    assert fused.scores.tolist() == [np.float32(0.9)]
    np.testing.assert_array_equal(dense_of(fused.masks.to_runs(12, 12))[0], mask.sum(axis=0) >= 2)
    again = Fuser(section).fuse(dict(reversed(views.items())), image_hw=(12, 12))
    assert again.masks.to_rle(12, 12) == fused.masks.to_rle(12, 12)


def test_a_method_that_does_not_exist_is_refused():
    section = FusionSection.model_validate({"rules": [{"mask_nms": {"method": "soft"}}]})
    with pytest.raises(ConfigError, match=r"^fusion\.rules\.0\.mask_nms\.method: "):
        Fuser(section)
