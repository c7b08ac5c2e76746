"""The mean mask of the views: who has a say, what is averaged, and where it lies."""

import numpy as np
import pytest

from tests.dense_masks import dense_of, runs_of
from tis_ray import menu
from tis_ray.errors import ConfigError
from tis_ray.fusion.mask_select import average
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks
from tis_ray.ops.rle import decode_crop
from tis_ray.views import View

VIEWS = [View("a", 400), View("a", 400, True), View("a", 800), View("b", 400)]
HW = (100, 100)
BOX = [10, 20, 30, 40]


def pool_of(rows, *, size=4):
    """From (box, score, label, source, probability) rows; each patch holds one probability all over its box."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    values = np.array([row[4] for row in rows], np.float16)
    masks = BoxMasks(boxes, np.broadcast_to(values[:, None, None], (len(rows), size, size)).copy())
    scores, labels, sources = ([row[i] for row in rows] for i in (1, 2, 3))
    return Instances.of(boxes, scores, labels, masks, source=sources)


def centre(instances):
    """Probability at the middle of each mask's box, where no border blurs it."""
    return instances.masks.probabilities[:, 1:3, 1:3].mean(axis=(1, 2)).tolist()


def select(instances, pool, **options):
    return average.select(instances, Pool.of(pool, views=VIEWS, image_hw=HW), **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [0.6, 0.466667], id="equal"),
        pytest.param({"weights": "score"}, [0.7, 0.366667], id="by score"),
        pytest.param({"of": "logit"}, [0.6422, 0.4663], id="of logits"),
        pytest.param({"k": 2}, [0.75, 0.3], id="the two best"),
        pytest.param({"k": 1}, [0.9, 0.2], id="the best"),
        pytest.param({"k": 3}, [0.6, 0.466667], id="as many as there are"),
        pytest.param({"k": 9}, [0.6, 0.466667], id="more than there are"),
        pytest.param({"k": 2, "weights": "score"}, [0.78, 0.28], id="the two best by score"),
    ],
)
def test_known_answers(options, expected):
    patches = np.array([[[0.9, 0.2]] * 2, [[0.6, 0.4]] * 2, [[0.3, 0.8]] * 2], np.float16)
    boxes = np.array([BOX] * 3, np.float32)
    pool = Instances.of(boxes, [0.9, 0.6, 0.3], [0] * 3, BoxMasks(boxes, patches), source=[0, 1, 2])
    mean = select(pool[[0]], pool, **options).masks.probabilities
    np.testing.assert_allclose(mean, [[expected] * 2], atol=1e-3)


def test_every_view_has_one_say_by_its_most_overlapping_detection_of_the_class():
    near, nearer = [10, 20, 30, 37], [10, 20, 30, 39]
    pool = pool_of(
        [
            (BOX, 0.9, 0, 0, 1.0),
            (near, 0.8, 0, 1, 0.0),  # the same view has a better one
            (nearer, 0.3, 0, 1, 0.5),
            (BOX, 0.9, 1, 2, 0.0),  # another class
            ([10, 20, 19.9, 40], 0.9, 0, 2, 0.0),  # an IoU just below one half
            ([12, 20, 30, 40], 0.9, 0, 3, 0.0),
        ],
        size=8,
    )
    mean = select(pool[[0]], pool).masks.probabilities
    assert mean[0, 2:6, 2:6].tolist() == np.full((4, 4), np.float16(0.5)).tolist()


def test_the_iou_that_counts_as_the_same_object_may_be_set():
    pool = pool_of([(BOX, 0.9, 0, 0, 1.0), ([10, 20, 30, 35], 0.9, 0, 1, 0.0)])  # IoU 3/4
    assert centre(select(pool[[0]], pool, iou_threshold=0.75)) == [0.5]
    assert centre(select(pool[[0]], pool, iou_threshold=0.76)) == [1.0]


def test_of_views_that_score_alike_the_first_are_the_best():
    pool = pool_of([(BOX, 0.5, 0, 3, 0.0), (BOX, 0.5, 0, 1, 0.5), (BOX, 0.5, 0, 0, 1.0)])
    assert centre(select(pool[[0]], pool, k=2)) == [0.75]


def test_a_view_without_the_object_is_none_of_the_best():
    pool = pool_of([(BOX, 0.0, 0, 3, 0.25), ([60, 60, 90, 90], 0.9, 0, 0, 1.0)])
    assert centre(select(pool[[0]], pool, k=1)) == [0.25]


@pytest.mark.parametrize("of", ["probability", "logit"])
def test_masks_that_are_pixels_go_by_their_majority(of):
    dense = np.zeros((4, *HW), bool)
    dense[:, 20:40, 10:20] = True
    dense[:2, 20:30, 20:30] = True  # in two of four: half is enough
    dense[2, 30:40, 20:30] = True  # in one
    pool = Instances.of([BOX] * 4, [0.9, 0.8, 0.7, 0.6], [0] * 4, RunMasks(runs_of(dense)), source=range(4))
    masks = select(pool[[3]], pool, of=of).masks
    (mask,) = dense_of(masks.to_runs(*HW))
    np.testing.assert_array_equal(mask, dense[0])


def test_masks_are_moved_to_the_fused_box():
    pool = pool_of([([10, 20, 30, 40], 0.9, 0, 0, 1.0), ([10, 20, 30, 50], 0.9, 0, 1, 1.0)], size=20)
    fused = Instances.of([[10, 20, 30, 46]], [0.9], [0], pool.masks[[0]])  # as voting might have moved it
    masks = select(fused, pool).masks
    np.testing.assert_array_equal(masks.boxes, fused.boxes)
    column = masks.probabilities[0, :, 10]
    np.testing.assert_array_equal(column[1:14], np.ones(13))  # in both; the shorter one ends at 20/26 of the box
    np.testing.assert_array_equal(column[17:], np.full(3, 0.5))


def test_a_view_that_failed_or_missed_the_object_has_no_say():
    pool = pool_of([(BOX, 0.9, 0, 0, 1.0), (BOX, 0.9, 0, 3, 0.5)])
    assert centre(select(pool[[0]], pool)) == [0.75]


def test_detections_that_all_score_0_count_alike():
    pool = pool_of([(BOX, 0.0, 0, 0, 1.0), (BOX, 0.0, 0, 3, 0.5)])
    assert centre(select(pool[[0]], pool, weights="score")) == [0.75]


def test_an_instance_that_nothing_overlaps_enough_keeps_its_own_mask():
    pool = pool_of([(BOX, 0.9, 0, 0, 0.25), ([60, 60, 60, 70], 0.9, 0, 1, 0.125)])
    fused = Instances.of([[90, 90, 99, 99], [60, 60, 60, 70]], [0.9, 0.9], [0, 0], pool.masks)  # moved away; no area
    masks = select(fused, pool).masks
    np.testing.assert_array_equal(masks.boxes, pool.masks.boxes)
    np.testing.assert_array_equal(masks.probabilities, pool.masks.probabilities)


def test_the_written_mask_equals_the_mean_of_full_frame_masks_but_for_the_outline():
    y, x = np.mgrid[:28, :28] / 27 - 0.5
    disc = np.clip(3 * (0.45 - np.hypot(x, y)) + 0.5, 0, 1).astype(np.float16)
    rng = np.random.default_rng(0)
    boxes = (np.array([20, 15, 80, 65]) + rng.normal(0, 1.5, (4, 4))).astype(np.float32)
    pool = Instances.of(boxes, [0.9] * 4, [0] * 4, BoxMasks(boxes, disc[None].repeat(4, 0)), source=range(4))
    mask = decoded(select(pool[[0]], pool).masks)
    full = np.mean([blurred(box, disc) for box in boxes.astype(np.float64)], axis=0) > 0.5
    assert full.sum() > 1000
    assert (mask & full).sum() / (mask | full).sum() > 0.97


def decoded(masks):
    (rle,) = masks.to_rle(*HW)
    crop, (left, top) = decode_crop(rle)
    full = np.zeros(HW, bool)
    full[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return full


def blurred(box, patch):
    """The patch at every pixel's centre of the full frame; 0 outside its box."""
    size = len(patch)
    y, x = np.mgrid[: HW[0], : HW[1]] + 0.5
    u, v = (x - box[0]) / (box[2] - box[0]) * size - 0.5, (y - box[1]) / (box[3] - box[1]) * size - 0.5
    ringed = np.pad(patch.astype(np.float64), 1)
    u, v = np.clip(u + 1, 0, size + 1), np.clip(v + 1, 0, size + 1)
    left, top = np.minimum(u.astype(int), size), np.minimum(v.astype(int), size)
    du, dv = u - left, v - top
    upper = ringed[top, left] * (1 - du) + ringed[top, left + 1] * du
    lower = ringed[top + 1, left] * (1 - du) + ringed[top + 1, left + 1] * du
    return upper * (1 - dv) + lower * dv


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"^fusion\.masks\.average\.k: .*greater than or equal to 1; got 0$"),
        ({"of": "max"}, r"^fusion\.masks\.average\.of: .*'probability' or 'logit'; got 'max'$"),
        ({"weight": "score"}, r"^fusion\.masks\.average\.weight: unknown key; did you mean 'weights'\?.*"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        menu.check_options(average.select, options, key="fusion.masks.average")


def test_the_best_of_all_views_may_be_written_as_null():
    assert menu.check_options(average.select, {"k": None}, key="k") == {"k": None}
