"""Patches in their own boxes against what PyTorch, torchvision and pycocotools do with full masks."""

from dataclasses import replace

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from tests.dense_masks import dense_of
from tis_ray.errors import InputError
from tis_ray.masks import BoxMasks

# pycocotools hands NumPy an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def coco_rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def decoded(rle):
    return coco_mask.decode({**rle, "counts": rle["counts"].encode()})


def smooth_patches(rng, count, size):
    """Blobs such as a mask head gives, plus noise; some values are exactly 0.5."""
    coarse = rng.random((count, 1, 4, 4)).astype(np.float32)
    patches = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(size, size), mode="bilinear")
    noisy = np.clip(patches.numpy()[:, 0] + rng.normal(0, 0.05, (count, size, size)), 0, 1)
    noisy[rng.random(noisy.shape) < 0.05] = 0.5
    return noisy.astype(np.float16)


def pasted(masks, height, width):
    """torchvision's full-frame masks, thresholded and encoded by COCO."""
    full = paste_masks_in_image(
        torch.from_numpy(masks.probabilities.astype(np.float32))[:, None],
        torch.from_numpy(masks.boxes),
        (height, width),
    )
    return [coco_rle(mask) for mask in (full[:, 0] > 0.5).numpy()]


def boxes_that_meet(rng, kind, count, height, width):
    """Boxes (N, 4) of one kind, all of which share pixels with the image."""
    centre = rng.uniform(0, 1, (count, 2)) * [width, height]
    if kind == "inside":
        half = np.minimum(np.minimum(centre, [width, height] - centre), rng.uniform(1, 25, (count, 2)))
    elif kind == "cut by borders":
        half = rng.uniform(0.3, 1, (count, 2)) * [width, height]
    elif kind == "below a pixel":
        half = rng.uniform(0.01, 0.6, (count, 2))
    elif kind == "thin":
        half = np.where([[True, False]], rng.uniform(0.05, 1, (count, 2)), rng.uniform(5, 40, (count, 2)))
    else:
        return np.tile(np.float32([0, 0, width, height]), (count, 1))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


@pytest.mark.parametrize("kind", ["inside", "cut by borders", "below a pixel", "thin", "whole image"])
@pytest.mark.parametrize("size", [1, 14, 28])
def test_rle_equals_torchvision_and_pycocotools(kind, size):
    height, width, count = 47, 61, 40
    rng = np.random.default_rng(size)
    boxes = boxes_that_meet(rng, kind, count, height, width)
    masks = BoxMasks(boxes, smooth_patches(rng, count, size))
    assert masks.to_rle(height, width) == pasted(masks, height, width)


@pytest.mark.parametrize("box", [(-30, 5, -10, 20), (70, 5, 99, 20), (5, -40, 20, -10), (5, 60, 20, 90)])
def test_a_box_beyond_the_image_has_an_empty_rle(box):
    masks = BoxMasks(np.array([box], np.float32), np.ones((1, 28, 28), np.float16))
    assert masks.to_rle(47, 61) == [coco_rle(np.zeros((47, 61)))]


def test_a_full_patch_fills_its_box_to_a_pixel():
    masks = BoxMasks(np.array([[8, 4, 36, 32]], np.float32), np.ones((1, 28, 28), np.float16))
    mask = decoded(masks.to_rle(47, 61)[0])
    assert mask[4:32, 8:36].all()
    assert mask.sum() == mask[3:33, 7:37].sum()


def test_threshold_is_exclusive():
    masks = BoxMasks(np.array([[0, 0, 4, 4]], np.float32), np.full((1, 4, 4), 0.25, np.float16))
    assert decoded(masks.to_rle(4, 4, threshold=0.25)[0]).sum() == 0
    assert decoded(masks.to_rle(4, 4, threshold=0.2)[0]).sum() > 0


def test_no_masks_have_no_rles():
    assert BoxMasks.empty(14).to_rle(47, 61) == []


@pytest.mark.parametrize(("old", "new"), [(7, 14), (14, 28), (28, 14), (28, 28), (5, 3), (1, 4), (4, 1)])
def test_resized_equals_torch_bilinear(old, new):
    patches = smooth_patches(np.random.default_rng(0), 6, old)
    boxes = np.zeros((6, 4), np.float32)
    resized = BoxMasks(boxes, patches).resized(new)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(patches.astype(np.float32))[:, None], size=(new, new), mode="bilinear"
    )[:, 0]
    assert resized.size == new
    assert resized.probabilities.dtype == np.float16
    np.testing.assert_allclose(resized.probabilities, expected.numpy(), atol=1e-3)


def test_concatenate_resamples_to_the_largest_patch():
    box = np.array([[0, 0, 4, 4]], np.float32)
    small = BoxMasks(box, np.float16([[[0, 1], [0, 1]]]))
    large = BoxMasks(box + 1, np.ones((1, 4, 4), np.float16))
    joined = BoxMasks.concatenate([small, BoxMasks.empty(3), large])
    assert joined.boxes.tolist() == [[0, 0, 4, 4], [1, 1, 5, 5]]
    assert joined.probabilities[0].tolist() == [[0, 0.25, 0.75, 1]] * 4
    assert joined.probabilities[1].tolist() == [[1] * 4] * 4


def test_concatenate_of_nothing_is_empty():
    assert len(BoxMasks.concatenate([])) == 0
    assert BoxMasks.concatenate([BoxMasks.empty(14), BoxMasks.empty(7)]).probabilities.shape == (0, 14, 14)


@pytest.mark.parametrize(
    ("boxes", "probabilities", "message"),
    [
        ((2, 3), (2, 4, 4), r"boxes: expected shape \(N, 4\); got \(2, 3\)"),
        ((2, 4), (2, 4, 5), r"probabilities: expected shape \(2, M, M\); got \(2, 4, 5\)"),
        ((2, 4), (3, 4, 4), r"probabilities: expected shape \(2, M, M\); got \(3, 4, 4\)"),
        ((2, 4), (2, 4), r"probabilities: expected shape \(2, M, M\); got \(2, 4\)"),
    ],
)
def test_box_masks_of_wrong_shape_are_refused(boxes, probabilities, message):
    with pytest.raises(InputError, match=message):
        BoxMasks(np.zeros(boxes, np.float32), np.zeros(probabilities, np.float16))


@pytest.mark.parametrize("index", [[2, 0], np.array([True, False, True]), slice(1, None), np.array([], np.int64)])
def test_box_masks_are_indexed_as_their_arrays_are(index):
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    masks = BoxMasks(boxes, np.arange(3, dtype=np.float16)[:, None, None] * np.ones((1, 2, 2), np.float16))
    np.testing.assert_array_equal(masks[index].boxes, boxes[index])
    np.testing.assert_array_equal(masks[index].probabilities, masks.probabilities[index])


# ---------------------------------------------------------------------------- Pixels, and who has none


def sampled(masks, height, width):
    """detectron2's full-frame masks (N, H, W): each pixel's centre is looked up in the patch, 0 outside, >= 0.5."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    boxes = torch.from_numpy(masks.boxes)[:, None, None]
    across = (x - boxes[..., 0]) / (boxes[..., 2] - boxes[..., 0]) * 2 - 1
    down = (y - boxes[..., 1]) / (boxes[..., 3] - boxes[..., 1]) * 2 - 1
    patches = torch.from_numpy(masks.probabilities.astype(np.float32))[:, None]
    looked_up = torch.nn.functional.grid_sample(patches, torch.stack([across, down], -1), align_corners=False)
    return (looked_up[:, 0] >= 0.5).numpy()


@pytest.mark.parametrize("kind", ["inside", "cut by borders", "thin", "whole image"])
def test_pasting_as_detectron2_does_equals_its_grid_sampling(kind):
    rng = np.random.default_rng(3)
    patches = np.abs(smooth_patches(rng, 40, 28) - np.float16(1e-4))  # away from the threshold by more than rounding
    masks = BoxMasks(boxes_that_meet(rng, kind, 40, 47, 61), patches, pasting="detectron2")
    expected = sampled(masks, 47, 61)
    np.testing.assert_array_equal(dense_of(masks.to_runs(47, 61)), expected)
    assert masks.to_rle(47, 61) == [coco_rle(mask) for mask in expected]
    as_torchvision = replace(masks, pasting="torchvision").to_rle(47, 61)
    assert as_torchvision != masks.to_rle(47, 61)


def four(present=(True, False, True, False)):
    """Masks over four boxes beside one another, some of them absent with a patch that means nothing."""
    boxes = np.array([[10 * i, 0, 10 * i + 8, 8] for i in range(4)], np.float32)
    patches = np.array([0.9, np.nan, 0.8, 7.0], np.float16)[:, None, None] * np.ones((1, 4, 4), np.float16)
    return BoxMasks(boxes, patches, np.array(present))


def test_an_absent_mask_is_written_as_none_and_has_no_pixels():
    masks = four()
    rles, dense = masks.to_rle(20, 50), dense_of(masks.to_runs(20, 50))
    assert [rle is None for rle in rles] == [False, True, False, True]
    np.testing.assert_array_equal(decoded(rles[2]), dense[2])
    assert dense.any(axis=(1, 2)).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(dense[2], dense_of(masks[[2]].to_runs(20, 50))[0])


def test_all_may_be_absent():
    masks = BoxMasks.absent(four().boxes, 7)
    assert masks.to_rle(20, 50) == [None] * 4
    assert len(masks.to_runs(20, 50)) == 4
    assert masks.to_runs(20, 50).spans.shape == (0, 2)


def test_presence_and_pasting_stay_with_the_masks():
    masks = replace(four(), pasting="detectron2")
    assert masks[[2, 1]].present.tolist() == [True, False]
    assert masks[[2, 1]].pasting == masks.resized(2).pasting == "detectron2"
    assert masks.resized(2).present.tolist() == masks.present.tolist()
    joined = BoxMasks.concatenate([masks[[0]], BoxMasks.empty(9), masks[[1]]])
    assert (joined.present.tolist(), joined.pasting, joined.size) == ([True, False], "detectron2", 4)


def test_masks_that_are_pasted_differently_are_not_joined():
    masks = four()
    with pytest.raises(InputError, match=r"^masks\.pasting: expected one convention; got detectron2, torchvision$"):
        BoxMasks.concatenate([masks, replace(masks, pasting="detectron2")])


def test_parts_without_any_mask_have_no_say_in_how_the_others_are_pasted():
    masks = replace(four(), pasting="detectron2")
    joined = BoxMasks.concatenate([BoxMasks.absent(four().boxes), masks])
    assert (joined.pasting, len(joined)) == ("detectron2", 8)


def test_absent_patches_do_not_blow_up_the_others():
    joined = BoxMasks.concatenate([BoxMasks.absent(four().boxes, 28), four()[[0]]])
    assert joined.size == 4


@pytest.mark.parametrize(
    ("value", "got"), [(np.nan, "nan"), (np.inf, "inf"), (-0.5, "-0.5"), (1.5, "1.5"), (-np.inf, "-inf")]
)
def test_a_probability_beyond_its_range_is_refused_where_there_is_a_mask(value, got):
    masks = four(present=(True, False, True, False))
    masks.probabilities[2, 1, 1] = value
    with pytest.raises(InputError, match=rf"^masks\.probabilities: expected 0\.\.1; got {got} at position 2$"):
        masks.check_values()
    replace(masks, present=np.array([True, False, False, False])).check_values()


def test_probabilities_of_0_and_1_pass():
    BoxMasks(four().boxes[:3], np.float16([[[0.0]], [[-0.0]], [[1.0]]])).check_values()


def test_a_box_that_is_no_number_is_refused_where_there_is_a_mask():
    masks = four()
    masks.boxes[1:3] = np.nan
    with pytest.raises(InputError, match=r"^masks\.boxes: expected finite numbers; got \[nan.* at position 2$"):
        masks.check_values()


def test_presence_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"^present: expected bool \(4,\); got bool \(3,\)$"):
        replace(four(), present=np.ones(3, bool))


# ------------------------------------------------------------------------------------ Means and exchange


def test_a_mean_is_absent_where_no_pick_counts():
    masks = BoxMasks(four().boxes, np.ones((4, 4, 4), np.float16), pasting="detectron2")
    picks = np.array([[0, -1], [-1, -1], [1, 2]])
    mean = masks.averaged(masks.boxes[:3], picks, np.array([[0.5, 1], [1, 1], [0, 0]]))
    assert mean.present.tolist() == [True, False, False]
    assert mean.pasting == "detectron2"
    assert (mean.probabilities[0] == 1).all()


@pytest.mark.parametrize(("own", "others"), [(4, 4), (4, 8), (8, 4)])
def test_masks_are_replaced_with_boxes_and_presence(own, others):
    boxes = four().boxes
    mine = BoxMasks(boxes, np.full((4, own, own), 0.25, np.float16), np.array([True, True, False, False]))
    theirs = BoxMasks(boxes + 1, np.full((4, others, others), 0.5, np.float16), np.array([True, False, True, False]))
    mixed = mine.replaced(np.array([False, True, True, False]), theirs)
    assert mixed.size == max(own, others)
    assert mixed.present.tolist() == [True, False, True, False]
    assert mixed.boxes[:, 0].tolist() == [0, 11, 21, 30]
    assert mixed.probabilities[[0, 2], 0, 0].tolist() == [0.25, 0.5]
    assert mine.probabilities.max() == 0.25


def test_replacing_by_absent_masks_leaves_the_size_of_the_others():
    mixed = four().replaced(np.array([True, False, False, False]), BoxMasks.absent(four().boxes, 28))
    assert mixed.size == 4
    assert mixed.present.tolist() == [False, False, True, False]
    assert not four().replaced(np.ones(4, bool), BoxMasks.absent(four().boxes, 28)).present.any()


def test_keys_tell_masks_apart_but_not_what_means_nothing():
    masks = four()
    assert len({masks.key(0), masks.key(1), masks.key(2)}) == 3
    assert masks.key(1) == masks.key(3)
    assert max(masks.key(i) for i in range(4)) == masks.key(1)
