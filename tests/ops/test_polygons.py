"""Polygons against COCO's own rasteriser: what they enclose is the mask, pixel for pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from tis_ray.ops import crop_runs, polygons, rle
from tis_ray.ops.runs import Runs

# pycocotools hands NumPy an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14), elements=st.integers(0, 1))


def polygons_of(mask: np.ndarray) -> list[list[int]]:
    runs = crop_runs.of_crops([mask], np.zeros((1, 2), np.int32), *mask.shape)
    return polygons.from_runs(runs)[0]


def rasterised(rings: list[list[int]], height: int, width: int) -> np.ndarray:
    if not rings:
        return np.zeros((height, width), dtype=np.uint8)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, height, width)))


def has_holes(mask: np.ndarray) -> bool:
    outside = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), dtype=bool)
    outside[0] = True
    free = np.pad(mask == 0, 1, constant_values=True)
    while True:
        grown = np.pad(outside, 1)
        grown = sum(np.roll(grown, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)).astype(bool)
        grown = grown[1:-1, 1:-1] & free
        if (grown == outside).all():
            return bool((free & ~outside).any())
        outside = grown


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_encloses_exactly_the_mask_holes_included(mask):
    rings = polygons_of(mask)
    np.testing.assert_array_equal(rasterised(rings, *mask.shape), mask)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_without_holes_no_corner_lies_on_a_straight_line(mask):
    if has_holes(mask):
        return
    for ring in polygons_of(mask):
        corners = np.array(ring).reshape(-1, 2)
        before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
        assert (before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]).all()


def shoelace(ring: list[int]) -> float:
    x, y = np.array(ring[0::2]), np.array(ring[1::2])
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_signed_areas_add_up_to_the_pixels(mask):
    assert sum(shoelace(ring) for ring in polygons_of(mask)) == mask.sum()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param([[1]], [[0, 0, 1, 0, 1, 1, 0, 1]], id="one pixel"),
        pytest.param([[1, 1], [1, 0]], [[0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 0, 2]], id="corner"),
        pytest.param([[1, 0], [0, 1]], [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]], id="diagonal apart"),
        pytest.param([[0]], [], id="nothing set"),
    ],
)
def test_known_outlines(mask, expected):
    assert polygons_of(np.array(mask, dtype=np.uint8)) == expected


def test_a_hole_is_reached_by_a_bridge_of_no_width():
    ring = np.ones((3, 3), dtype=np.uint8)
    ring[1, 1] = 0
    (outline,) = polygons_of(ring)
    assert shoelace(outline) == 8
    corners = [tuple(corner) for corner in np.array(outline).reshape(-1, 2)]
    assert {(1, 1), (2, 1), (2, 2), (1, 2)} <= set(corners)
    assert corners.count((0, 1)) == 2


def test_no_pixels_give_no_polygon():
    assert polygons_of(np.zeros((0, 0), dtype=np.uint8)) == []


def test_an_rle_keeps_its_place_in_the_image():
    mask = np.zeros((9, 12), dtype=np.uint8)
    mask[4:6, 7:11] = 1
    (encoded,) = rle.encode_crops([mask[4:6, 7:11]], np.array([[7, 4]], dtype=np.int32), 9, 12)
    assert polygons.from_rle(encoded) == [[7, 4, 11, 4, 11, 6, 7, 6]]


def test_many_masks_at_once_are_those_one_by_one():
    rng = np.random.default_rng(0)
    masks = (rng.random((1500, 9, 11)) < rng.choice([0, 0.1, 0.6, 0.95, 1], (1500, 1, 1))).astype(np.uint8)
    runs = crop_runs.of_crops(list(masks), np.zeros((1500, 2), np.int32), 9, 11)
    found = polygons.from_runs(runs)
    assert len(found) == 1500
    for rings, mask in zip(found[::50], masks[::50], strict=True):
        assert rings == polygons_of(mask)
    assert [sum(map(shoelace, rings)) for rings in found] == masks.sum(axis=(1, 2)).tolist()


def test_no_masks_and_empty_masks():
    assert polygons.from_runs(Runs.empty(5, 6)) == []
    assert polygons.from_runs(Runs.empty(5, 6, count=2)) == [[], []]


def test_a_whole_huge_image_is_its_frame():
    runs = Runs(20_000, 30_000, np.array([[0, 600_000_000]]), np.array([0, 1]))
    assert polygons.from_runs(runs) == [[[0, 0, 30_000, 0, 30_000, 20_000, 0, 20_000]]]


def test_holes_within_islands_within_holes_are_kept():
    mask = np.ones((41, 57), np.uint8)
    for inset in range(1, 20):
        mask[inset:-inset, inset:-inset] = (inset + 1) % 2
    mask[5::7, 6::9] ^= 1
    np.testing.assert_array_equal(rasterised(polygons_of(mask), *mask.shape), mask)


def test_many_holes_left_of_one_another_share_an_outline():
    mask = np.ones((30, 90), np.uint8)
    mask[2:-2:3, 2:-2:4] = 0
    mask[::5, 0] = 0  # a ragged left border
    (ring,) = polygons_of(mask)
    assert shoelace(ring) == mask.sum()
    np.testing.assert_array_equal(rasterised([ring], *mask.shape), mask)
