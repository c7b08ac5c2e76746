"""Set algebra on runs: equal to pycocotools and to arithmetic on pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tests.dense_masks import blobs, coco_rles, dense_of, runs_of, small_masks
from tis_ray.errors import InputError
from tis_ray.ops.patch_runs import paste
from tis_ray.ops.rle import from_runs
from tis_ray.ops.run_algebra import areas, bounds, pairwise_iou, pairwise_shared, union
from tis_ray.ops.runs import Runs


def coco_bounds(rles):
    boxes = coco.toBbox(rles).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def check_all(masks, others):
    """Every operation on `masks` (N, H, W), and with `others` (M, H, W), against pycocotools."""
    runs, other_runs = runs_of(masks), runs_of(others)
    rles, other_rles = coco_rles(masks), coco_rles(others)
    assert areas(runs).tolist() == [int(coco.area(rle)) for rle in rles]
    filled = masks.any(axis=(1, 2))
    np.testing.assert_array_equal(bounds(runs)[filled], coco_bounds(rles)[filled] if len(rles) else np.zeros((0, 4)))
    assert not bounds(runs)[~filled].any()
    np.testing.assert_array_equal(pairwise_shared(runs, other_runs), shared_by_pixels(masks, others))
    if len(rles) and len(other_rles):
        ious = coco.iou(rles, other_rles, [0] * len(other_rles))
        np.testing.assert_array_equal(pairwise_iou(runs, other_runs), ious)
        assert coco_rles(dense_of(union(runs))) == [coco.merge(rles)]


def shared_by_pixels(masks, others):
    return np.einsum("nyx,myx->nm", masks.astype(np.int64), others.astype(np.int64))


@settings(deadline=None, max_examples=300)
@given(st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(lambda s: st.tuples(*[small_masks(size=s)] * 2)))
def test_equals_pycocotools_on_masks_of_any_kind(pair):
    check_all(*pair)


@pytest.mark.parametrize(("height", "width"), [(90, 131), (1, 400), (400, 1), (64, 64)])
def test_equals_pycocotools_on_noisy_shapes(height, width):
    check_all(blobs(40, height, width, seed=1), blobs(25, height, width, seed=2, noise=0.5))


def test_more_than_1000_masks_at_a_time():
    masks = blobs(1100, 50, 60, sides=(2, 12))
    runs, rles = runs_of(masks), coco_rles(masks)
    assert areas(runs).tolist() == [int(coco.area(rle)) for rle in rles]
    np.testing.assert_array_equal(pairwise_iou(runs, runs), coco.iou(rles, rles, [0] * len(rles)))


def test_frames_of_several_megapixels():
    height, width = 3384, 2710
    spans = np.array(
        [[0, height * width], [0, 1], [height * width - 1, height * width], [height - 1, height + 1], [5, 5 + height]]
    )
    runs = Runs(height, width, spans, np.array([0, 1, 2, 3, 4, 4, 5]))
    assert areas(runs).tolist() == [height * width, 1, 1, 2, 0, height]
    assert bounds(runs).tolist() == [
        [0, 0, width, height],
        [0, 0, 1, 1],
        [width - 1, height - 1, width, height],
        [0, 0, 2, height],  # over the end of the first column: its last row, and the first of the next
        [0, 0, 0, 0],
        [0, 0, 2, height],
    ]
    assert pairwise_shared(runs, runs)[0].tolist() == [height * width, 1, 1, 2, 0, height]
    assert pairwise_shared(runs, runs)[3].tolist() == [2, 0, 0, 2, 0, 2]
    assert pairwise_iou(runs, runs)[5].tolist() == [1 / width, 0, 0, 2 / height, 0, 1]
    assert union(runs).spans.tolist() == [[0, height * width]]


def test_equals_pycocotools_on_masks_pasted_into_a_frame_of_several_megapixels():
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(4), np.log(900), (300, 2)))
    corners = rng.uniform(-100, 2600, (300, 2))
    patches = rng.uniform(0, 1, (300, 7, 7))
    runs = paste(patches, np.concatenate([corners, corners + sides], axis=1).astype(np.float32), 3384, 2710)
    rles = [{"size": rle["size"], "counts": rle["counts"].encode()} for rle in from_runs(runs)]
    assert areas(runs).tolist() == [int(coco.area(rle)) for rle in rles]
    filled = areas(runs) > 0
    np.testing.assert_array_equal(bounds(runs)[filled], coco_bounds(rles)[filled])
    ious = coco.iou(rles, rles, [0] * len(rles))
    assert ((ious > 0) & (ious < 1)).sum() > 300
    np.testing.assert_array_equal(pairwise_iou(runs, runs), ious)
    assert from_runs(union(runs))[0]["counts"].encode() == coco.merge(rles)["counts"]


def test_a_sum_of_areas_beyond_32_bits():
    side = 1 << 17
    whole = Runs(side, side, np.array([[0, side * side]] * 2), np.arange(3))
    assert areas(whole).tolist() == [side**2] * 2
    assert bounds(whole).tolist() == [[0, 0, side, side]] * 2
    assert pairwise_shared(whole, whole).tolist() == [[side**2] * 2] * 2


def test_no_masks():
    none, two = Runs.empty(4, 5), Runs.empty(4, 5, count=2)
    assert (areas(none).shape, bounds(none).shape) == ((0,), (0, 4))
    assert (areas(none).dtype, bounds(none).dtype) == (np.int64, np.int64)
    assert pairwise_iou(none, two).shape == (0, 2)
    assert pairwise_iou(two, none).shape == (2, 0)
    assert pairwise_iou(two, two).tolist() == [[0, 0], [0, 0]]
    assert len(union(none)) == 1
    assert len(union(two).spans) == 0


def test_masks_whose_runs_follow_each_other_become_one_run():
    runs = Runs(4, 4, np.array([[2, 5], [8, 9], [5, 8], [0, 1]]), np.array([0, 2, 4]))
    assert union(runs).spans.tolist() == [[0, 1], [2, 9]]


def test_masks_of_different_images_are_refused():
    with pytest.raises(InputError, match=r"^masks: expected those of one image size; got \(4, 5\) and \(5, 4\)$"):
        pairwise_iou(Runs.empty(4, 5), Runs.empty(5, 4))


def test_leaves_its_input_untouched():
    runs = runs_of(blobs(5, 30, 30))
    before = runs.spans.copy()
    areas(runs), bounds(runs), union(runs), pairwise_iou(runs, runs)
    np.testing.assert_array_equal(runs.spans, before)
