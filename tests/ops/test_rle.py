"""COCO's run-length encoding against pycocotools, pixel for pixel."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tis_ray.errors import InputError
from tis_ray.ops import rle as rle_ops
from tis_ray.ops.patch_runs import paste
from tis_ray.ops.runs import Runs

MASK = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1))


def coco_rle(mask):
    """pycocotools' RLE of a full mask, with text for counts."""
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def runs_of(mask):
    """Run lengths in column-major order, zeros first, by counting one pixel at a time."""
    runs, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def packed(counts):
    """COCO's text of any numbers, also of those that no mask has."""
    text = ""
    for i, count in enumerate(counts):
        value, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * more)
    return text


def speckle(height, width, *, density, seed=0):
    return (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)


@settings(deadline=None)
@given(MASK)
def test_counts_come_back_and_equal_pycocotools(mask):
    rle = rle_ops.from_counts(runs_of(mask), *mask.shape)
    assert rle == coco_rle(mask)
    assert rle_ops.counts_of(rle).tolist() == runs_of(mask)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.5, 0.999, 1.0])
def test_long_runs_equal_pycocotools(density):
    mask = speckle(300, 400, density=density)
    assert rle_ops.from_counts(runs_of(mask), 300, 400) == coco_rle(mask)
    assert rle_ops.counts_of(coco_rle(mask)).tolist() == runs_of(mask)


def test_reads_counts_given_as_bytes():
    mask = speckle(30, 40, density=0.3)
    rle = coco_rle(mask)
    as_bytes = {**rle, "counts": rle["counts"].encode()}
    np.testing.assert_array_equal(rle_ops.counts_of(as_bytes), rle_ops.counts_of(rle))


def test_runs_of_millions_of_pixels_equal_pycocotools():
    rle = rle_ops.from_counts([1_000_000, 7_000_000, 1_170_640], 2710, 3384)
    assert rle_ops.areas([rle]).tolist() == [7_000_000]
    assert coco_mask.area({**rle, "counts": rle["counts"].encode()}) == 7_000_000


def test_areas_equal_pycocotools():
    masks = [speckle(20, 30, density=density) for density in (0.0, 0.2, 1.0)]
    areas = rle_ops.areas([coco_rle(mask) for mask in masks])
    assert areas.dtype == np.int64
    assert areas.tolist() == [mask.sum() for mask in masks]
    assert rle_ops.areas([]).shape == (0,)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        pytest.param([3, 4], "got sum 7", id="too few"),
        pytest.param([10, 3], "got sum 13", id="too many"),
        pytest.param([14, -2], "got sum 12", id="negative"),
        pytest.param([], "got sum 0", id="none"),
    ],
)
def test_counts_that_do_not_fill_the_image_are_refused(counts, reason):
    with pytest.raises(InputError, match=rf"counts: expected runs >= 0 that add up to 3 x 4 = 12; {reason}"):
        rle_ops.from_counts(counts, 3, 4)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(0, 1)))
def test_masks_go_to_runs_and_back_together(masks):
    runs = rle_ops.to_runs([coco_rle(mask) for mask in masks], *masks.shape[1:])
    assert (runs.height, runs.width, len(runs)) == masks.shape[1:] + masks.shape[:1]
    for i, mask in enumerate(masks):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)))
        np.testing.assert_array_equal(runs.spans[runs.offsets[i] : runs.offsets[i + 1]], edges.reshape(-1, 2))
    assert rle_ops.from_runs(runs) == [coco_rle(mask) for mask in masks]


def test_three_thousand_masks_equal_pycocotools():
    rng = np.random.default_rng(0)
    masks = rng.random((3000, 17, 23)) < rng.choice([0, 0.02, 0.5, 0.98, 1], (3000, 1, 1))
    packed_by_coco = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    expected = [{"size": [17, 23], "counts": one["counts"].decode()} for one in packed_by_coco]
    runs = rle_ops.to_runs(expected, 17, 23)
    assert rle_ops.from_runs(runs) == expected
    assert rle_ops.areas(expected).tolist() == masks.sum(axis=(1, 2)).tolist()


def test_masks_of_no_pixels_and_no_masks():
    assert rle_ops.from_runs(Runs.empty(4, 5)) == []
    assert rle_ops.from_runs(Runs.empty(4, 5, count=2)) == [coco_rle(np.zeros((4, 5)))] * 2
    assert len(rle_ops.to_runs([], 4, 5)) == 0
    assert len(rle_ops.to_runs(rle_ops.from_runs(Runs.empty(4, 5, count=2)), 4, 5)) == 2


@pytest.mark.parametrize(
    ("counts", "spans"),
    [
        pytest.param([3, 4, 0, 2, 11], [[3, 9]], id="touching"),
        pytest.param([3, 0, 6, 2, 9], [[9, 11]], id="empty run"),
        pytest.param([0, 0, 0, 0, 20], [], id="nothing"),
        pytest.param([0, 0, 5, 15, 0, 0], [[5, 20]], id="empty runs at the end"),
    ],
)
def test_empty_runs_of_other_encoders_vanish(counts, spans):
    runs = rle_ops.to_runs([{"size": [4, 5], "counts": packed(counts)}], 4, 5)
    assert runs.spans.tolist() == spans
    assert rle_ops.from_counts(counts, 4, 5) == rle_ops.from_runs(runs)[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": [5, 4], "counts": "d0"}, r"size: expected \[4, 5\]; got \[5, 4\] at position 2"),
        ({"size": [4, 5], "counts": "d~"}, r"counts: expected COCO's characters '0' to 'o'; got b'd~' at position 2"),
        ({"size": [4, 5], "counts": "\ud800"}, r"counts: expected COCO's characters '0' to 'o'; got b.* at position 2"),
        ({"size": [4, 5], "counts": [20]}, r"counts: expected COCO's string; got list at position 2"),
        ({"size": [4, 5], "counts": packed([19])}, r"add up to 4 x 5 = 20; got sum 19 at position 2"),
        ({"size": [4, 5], "counts": packed([30, -10])}, r"add up to 4 x 5 = 20; got sum 20 at position 2"),
        ({"size": [4, 5], "counts": ""}, r"add up to 4 x 5 = 20; got sum 0 at position 2"),
    ],
)
def test_the_mask_that_is_wrong_is_named(wrong, message):
    good = coco_rle(speckle(4, 5, density=0.5))
    with pytest.raises(InputError, match=message):
        rle_ops.to_runs([good, good, wrong, good], 4, 5)


def test_endless_numbers_are_refused():
    with pytest.raises(InputError, match="counts: expected runs"):
        rle_ops.to_runs([{"size": [4, 5], "counts": "o" * 1000}], 4, 5)


def test_nested_counts_are_refused():
    with pytest.raises(InputError, match=r"counts: expected a list of numbers; got one of shape \(1, 2\)"):
        rle_ops.from_counts([[6, 6]], 3, 4)


@settings(deadline=None)
@given(MASK)
def test_decode_crop_is_the_smallest_crop(mask):
    crop, (x, y) = rle_ops.decode_crop(coco_rle(mask))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        assert crop.shape == (0, 0)
        return
    assert (x, y) == (columns[0], rows[0])
    np.testing.assert_array_equal(crop, mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@pytest.mark.parametrize("size", [[3, 4], [12, 1], [10, 9], [10, 11]])
def test_an_rle_of_another_size_is_refused(size):
    rle = rle_ops.from_counts([5, 15, 80], 10, 10)
    with pytest.raises(InputError, match=r"counts: expected runs >= 0 that add up to .*; got sum 100"):
        rle_ops.decode_crop({"size": size, "counts": rle["counts"]})


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=30))
def test_garbage_decodes_to_pixels_of_the_image_or_is_refused(text):
    try:
        crop, (x, y) = rle_ops.decode_crop({"size": [5, 7], "counts": text})
    except InputError:
        return
    assert crop.max(initial=0) <= 1
    assert x + crop.shape[1] <= 7
    assert y + crop.shape[0] <= 5


@pytest.mark.parametrize("runs", [[-3, 38], [40, -5], [1 << 62, 1 << 62, 1 << 62, 1 << 62, 35]])
def test_runs_that_only_sum_up_right_are_refused(runs):
    text = packed(runs)
    assert rle_ops.counts_of({"size": [5, 7], "counts": text}).tolist() == runs
    with pytest.raises(InputError, match="counts: expected runs"):
        rle_ops.decode_crop({"size": [5, 7], "counts": text})


@pytest.mark.parametrize("text", ["0 1", "~", "0\u00e90", "\n"])
def test_characters_that_coco_never_writes_are_refused(text):
    with pytest.raises(InputError, match="counts: expected COCO's characters '0' to 'o'"):
        rle_ops.counts_of({"size": [5, 7], "counts": text})


@settings(deadline=None)
@given(MASK, st.integers(-8, 20), st.integers(-8, 20))
def test_encode_crops_cuts_at_the_borders(crop, x, y):
    canvas = np.zeros((60, 60), np.uint8)
    canvas[20 + y : 20 + y + crop.shape[0], 20 + x : 20 + x + crop.shape[1]] = crop
    full = canvas[20:35, 20:38]  # the image is 15 x 18
    (rle,) = rle_ops.encode_crops([crop], np.array([[x, y]], np.int32), 15, 18)
    assert rle == coco_rle(full)


@pytest.mark.parametrize("crop", [np.zeros((0, 0), np.uint8), np.zeros((3, 3), np.uint8)])
def test_a_mask_without_pixels_is_one_run_of_zeros(crop):
    (rle,) = rle_ops.encode_crops([crop], np.zeros((1, 2), np.int32), 6, 7)
    assert rle == coco_rle(np.zeros((6, 7), np.uint8))


def test_any_non_zero_value_is_set():
    (rle,) = rle_ops.encode_crops([np.full((2, 2), 255, np.uint8)], np.array([[1, 1]], np.int32), 4, 4)
    assert rle_ops.areas([rle]).tolist() == [4]


def test_encode_crops_reads_strided_crops():
    mask = speckle(9, 9, density=0.5)
    (rle,) = rle_ops.encode_crops([mask[:, ::-1]], np.zeros((1, 2), np.int32), 9, 9)
    assert rle == coco_rle(mask[:, ::-1])


def test_patches_and_boxes_must_match():
    with pytest.raises(
        InputError, match=r"probabilities: expected shape \(2, M, M\), a patch for each box; got \(1, 3, 3\)"
    ):
        paste(np.zeros((1, 3, 3), np.float16), np.zeros((2, 4), np.float32), 5, 5)
