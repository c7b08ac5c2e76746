"""Masks in their own frames against what PyTorch, torchvision and pycocotools do with full masks."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from tis_ray.errors import InputError
from tis_ray.masks import BoxMasks, CropMasks

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


# --------------------------------------------------------------------------------------------- BoxMasks


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


# -------------------------------------------------------------------------------------------- CropMasks


def random_masks(seed, count=12, height=23, width=31):
    """Full masks (N, H, W): rectangles full of holes, the first empty, the second everything."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), np.uint8)
    for mask in masks[2:]:
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(1, 15), x : x + rng.integers(1, 15)] = 1
        mask &= rng.random(mask.shape) < 0.8
    masks[1] = 1
    return masks


def crops_of(full):
    return CropMasks.from_rle([coco_rle(mask) for mask in full])


def full_of(masks, height, width):
    """Full masks (N, H, W), by pycocotools from the RLEs."""
    return np.array([decoded(rle) for rle in masks.to_rle(height, width)]).reshape(-1, height, width)


@pytest.mark.parametrize("seed", range(3))
def test_rles_come_back(seed):
    full = random_masks(seed)
    masks = crops_of(full)
    assert masks.to_rle(23, 31) == [coco_rle(mask) for mask in full]
    np.testing.assert_array_equal(full_of(masks, 23, 31), full)


def test_areas_and_boxes_are_those_of_the_pixels():
    full = random_masks(0)
    masks = crops_of(full)
    assert masks.areas().tolist() == full.sum(axis=(1, 2)).tolist()
    filled = np.flatnonzero(full.any(axis=(1, 2)))
    rows, columns = full.any(axis=2), full.any(axis=1)
    expected = [
        [c.argmax(), r.argmax(), len(c) - c[::-1].argmax(), len(r) - r[::-1].argmax()]
        for r, c in zip(rows[filled], columns[filled], strict=True)
    ]
    assert masks[filled].boxes().tolist() == expected
    assert masks.boxes().dtype == np.float32


def test_hflip_mirrors_the_full_mask():
    full = random_masks(1)
    np.testing.assert_array_equal(full_of(crops_of(full).hflip(31), 23, 31), full[:, :, ::-1])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(0, 22), st.integers(1, 31), st.integers(1, 23), st.integers(0, 5))
def test_crop_cuts_the_full_mask(x1, y1, width, height, seed):
    x2, y2 = min(x1 + width, 31), min(y1 + height, 23)
    full = random_masks(seed)
    cut = crops_of(full).crop((x1, y1, x2, y2))
    np.testing.assert_array_equal(full_of(cut, y2 - y1, x2 - x1), full[:, y1:y2, x1:x2])


def test_a_crop_beyond_the_mask_is_empty():
    masks = CropMasks(np.array([[2, 2]], np.int32), (np.ones((3, 3), np.uint8),))
    for box in [(10, 10, 20, 20), (0, 0, 2, 2), (5, 0, 9, 9)]:
        assert masks.crop(box).areas().tolist() == [0]
        assert masks.crop(box).to_rle(10, 10) == [coco_rle(np.zeros((10, 10)))]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 5))
def test_resized_equals_torch_nearest_exact(height, width, seed):
    full = random_masks(seed)
    resized = crops_of(full).resized((23, 31), (height, width))
    masks = torch.from_numpy(full)[:, None]
    expected = torch.nn.functional.interpolate(masks, size=(height, width), mode="nearest-exact")
    np.testing.assert_array_equal(full_of(resized, height, width), expected[:, 0].numpy())


@pytest.mark.parametrize(("old", "new"), [(2710, 1067), (3384, 1333), (480, 1050), (427, 800), (640, 1199), (7, 3000)])
def test_resized_places_pixels_as_torch_does_on_long_edges(old, new):
    ramp = torch.arange(old, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(ramp, size=new, mode="nearest-exact")[0, 0].numpy()
    for column in (0, old // 3, old - 1):
        mask = CropMasks(np.array([[column, 0]], np.int32), (np.ones((1, 1), np.uint8),))
        resized = mask.resized((1, old), (1, new))
        assert resized.areas()[0] == (expected == column).sum()
        if resized.areas()[0]:
            assert resized.offsets[0, 0] == (expected == column).argmax()


@pytest.mark.parametrize("index", [[2, 0], np.array([True, False, True]), slice(1, None), np.array([], np.int64)])
def test_crop_masks_are_indexed_like_an_array(index):
    crops = tuple(np.ones((i + 1, i + 1), np.uint8) for i in range(3))
    masks = CropMasks(np.arange(6, dtype=np.int32).reshape(3, 2), crops)
    expected = np.arange(3)[index]
    assert masks[index].areas().tolist() == [(i + 1) ** 2 for i in expected]
    np.testing.assert_array_equal(masks[index].offsets, masks.offsets[expected])


def test_offsets_of_wrong_shape_are_refused():
    with pytest.raises(InputError, match=r"offsets: expected shape \(1, 2\); got \(2, 2\)"):
        CropMasks(np.zeros((2, 2), np.int32), (np.ones((1, 1), np.uint8),))


def test_no_crop_masks_stay_none():
    none = CropMasks.from_rle([])
    assert len(none) == 0
    for same in (none.hflip(9), none.crop((0, 0, 5, 5)), none.resized((5, 5), (9, 9))):
        assert same.offsets.shape == (0, 2)
    assert none.boxes().shape == (0, 4)
    assert none.areas().shape == (0,)
    assert none.to_rle(5, 5) == []
