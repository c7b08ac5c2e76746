"""Exact crops against what PyTorch and pycocotools do with full masks."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.full_masks import turned
from tis_ray.errors import InputError
from tis_ray.masks import CropMasks

# pycocotools hands NumPy an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def coco_rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def decoded(rle):
    return coco_mask.decode({**rle, "counts": rle["counts"].encode()})


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
    for same in (
        none.hflip(9),
        none.crop((0, 0, 5, 5)),
        none.resized((5, 5), (9, 9)),
        none.tight(),
        none.rotated(5, (5, 5)),
    ):
        assert same.offsets.shape == (0, 2)
    assert none.boxes().shape == (0, 4)
    assert none.areas().shape == (0,)
    assert none.to_rle(5, 5) == []


def test_tight_crops_hold_the_same_pixels():
    full = random_masks(2)
    loose = crops_of(full).crop((3, 2, 29, 21))
    tight = loose.tight()
    np.testing.assert_array_equal(full_of(tight, 19, 26), full[:, 2:21, 3:29])
    for crop in tight.crops:
        assert crop.size == 0 or (crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any())


def test_shifted_masks_lie_further_right_and_down():
    full = random_masks(3)
    moved = np.zeros((len(full), 40, 40), np.uint8)
    moved[:, 7:30, 5:36] = full
    np.testing.assert_array_equal(full_of(crops_of(full).shifted(5, 7), 40, 40), moved)


def test_masks_are_concatenated_in_order():
    full = random_masks(4)
    parts = [crops_of(full[:5]), crops_of(full[:0]), crops_of(full[5:])]
    np.testing.assert_array_equal(full_of(CropMasks.concatenate(parts), 23, 31), full)
    assert len(CropMasks.concatenate([])) == 0


@settings(deadline=None, max_examples=60)
@given(st.floats(-180, 180), st.integers(0, 5))
def test_rotated_turns_the_full_mask(degrees, seed):
    full = random_masks(seed)
    expected = np.array([turned(mask, degrees) for mask in full])
    np.testing.assert_array_equal(full_of(crops_of(full).rotated(degrees, (23, 31)), 23, 31), expected)
