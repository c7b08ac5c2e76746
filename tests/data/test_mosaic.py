"""Mosaics against the same done to full masks, pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.full_masks import boxes_of, crops_of, full, random_sample, resized
from tis_ray.data.mosaic import FILL, Mosaic, Span, join, span
from tis_ray.data.transforms import Labelled
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks


def placed(side, fit, centre, canvas, before):
    """Along an axis: pixels of the source, and of the canvas, as YOLOv4's mosaic has them."""
    length = max(1, round(side * fit))
    if before:
        low, high = max(centre - length, 0), centre
    else:
        low, high = centre, min(centre + length, canvas)
    kept = min(max(round(side * (high - low) / length), 1), side)
    return (slice(side - kept, side) if before else slice(0, kept)), slice(low, high)


def joined_by_hand(samples, masks, canvas_hw, centre_yx):
    """Full masks on the canvas, in the order of the samples, with the share of each that was left; and stuff."""
    height, width = canvas_hw
    found, shares, stuff = [], [], np.full(canvas_hw, 255, np.uint8)
    for i, (sample, one) in enumerate(zip(samples, masks, strict=True)):
        h, w = sample.image.shape[1:]
        fit = min(height / 2 / h, width / 2 / w)
        rows, to_rows = placed(h, fit, centre_yx[0], height, i < 2)
        columns, to_columns = placed(w, fit, centre_yx[1], width, i % 2 == 0)
        size = to_rows.stop - to_rows.start, to_columns.stop - to_columns.start
        canvas = np.zeros((len(one), height, width), np.uint8)
        canvas[:, to_rows, to_columns] = resized(one[:, rows, columns], size)
        stuff[to_rows, to_columns] = resized(sample.annotations.stuff[None, rows, columns], size)[0]
        found.append(canvas)
        shares.append(one[:, rows, columns].sum((1, 2)) / one.sum((1, 2)))
    return np.concatenate(found), np.concatenate(shares), stuff


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5)), min_size=4, max_size=4),
    st.tuples(st.integers(2, 90), st.integers(2, 90)),
    st.tuples(st.floats(0.25, 0.75), st.floats(0.25, 0.75)),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_masks_are_those_of_full_masks_joined(shapes, canvas_hw, point, min_visible):
    pairs = [random_sample(i, shape[:2], shape[2]) for i, shape in enumerate(shapes)]
    samples, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    image, annotations = join(samples, canvas_hw, point, min_visible=min_visible)
    assert image.shape == (3, *canvas_hw)
    centre = [min(max(round(side * share), 1), side - 1) for side, share in zip(canvas_hw, point, strict=True)]
    expected, shares, stuff = joined_by_hand(samples, masks, canvas_hw, centre)
    crowd = np.concatenate([sample.annotations.crowd for sample in samples])
    labels = np.concatenate([sample.annotations.labels for sample in samples])
    visible = np.where(crowd, shares > 0, (shares >= min_visible) & (shares > 0))
    # Objects without a side of 1 px go as well; which these are the boxes say, which the next test is about.
    kept = iter(np.flatnonzero(visible))
    chosen = []
    for label, is_crowd, mask in zip(
        annotations.labels, annotations.crowd, full(annotations.masks, canvas_hw), strict=True
    ):
        chosen.append(
            next(i for i in kept if labels[i] == label and crowd[i] == is_crowd and (expected[i] == mask).all())
        )
    dropped = sorted(set(np.flatnonzero(visible)) - set(chosen))
    assert not crowd[dropped].any()
    for i in dropped:
        rows, columns = expected[i].any(1), expected[i].any(0)
        assert min(rows.sum(), columns.sum()) <= 1
    np.testing.assert_array_equal(annotations.stuff, stuff)


def square(value, box, size_hw=(100, 50), **fields):
    """An image of one value with one object that fills `box`, which is brighter by one."""
    x1, y1, x2, y2 = box
    image = torch.full((3, *size_hw), value, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] += 1
    masks = CropMasks(np.array([[x1, y1]], np.int32), (np.ones((y2 - y1, x2 - x1), np.uint8),))
    annotations = Annotations(masks.boxes(), np.array([value], np.int32), masks, np.array([False]), **fields)
    return Labelled(image, annotations)


def test_a_part_lies_where_it_does_by_hand():
    """Canvas 200 x 200, point at x 80, y 90; the first picture, 50 x 100, keeps its size: it lies at 30..80, 0..90."""
    samples = [square(10 + 20 * i, (10, 20, 30, 40)) for i in range(4)]
    image, annotations = join(samples, (200, 200), (0.45, 0.4), min_visible=0.1)
    np.testing.assert_array_equal(
        annotations.boxes, [[40, 10, 60, 30], [90, 10, 110, 30], [40, 110, 60, 130], [90, 110, 110, 130]]
    )
    assert annotations.labels.tolist() == [10, 30, 50, 70]
    assert (image[:, :90, 30:80] <= 11).all()
    for mask, label in zip(full(annotations.masks, (200, 200)), annotations.labels, strict=True):
        np.testing.assert_array_equal(image[0].numpy() == label + 1, mask.astype(bool))
    assert (image[:, :, :30] == FILL).all()
    assert (image[:, 190:] == FILL).all()


def test_the_axes_of_a_part_by_hand():
    assert span(50, 50, 80, 200, before=True) == Span((0, 50), (30, 80))
    assert span(100, 100, 90, 200, before=True) == Span((10, 100), (0, 90))
    assert span(100, 100, 150, 200, before=False) == Span((0, 50), (150, 200))
    assert span(3, 1, 1, 2, before=True) == Span((0, 3), (0, 1))


def test_pictures_lie_under_their_masks_when_resized():
    """Objects of one bright value: away from its border an object's pixels are bright, and no others are."""
    samples = []
    for i in range(4):
        image = torch.zeros((3, 90 + 10 * i, 70), dtype=torch.uint8)
        image[:, 30:80, 20:50] = 200
        mask = crops_of((image[:1] > 0).numpy().astype(np.uint8))
        samples.append(Labelled(image, Annotations(mask.boxes(), np.zeros(1, np.int32), mask, np.zeros(1, np.bool_))))
    image, annotations = join(samples, (151, 163), (0.55, 0.45), min_visible=0.1)
    assert len(annotations) == 4
    shown = full(annotations.masks, (151, 163)).any(0)
    bright = image[0].numpy() > 170
    assert (bright <= shown).all()
    for mask, box in zip(full(annotations.masks, (151, 163)), annotations.boxes, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        inner = mask.copy()
        inner[[rows[0], rows[-1]]] = 0
        inner[:, [columns[0], columns[-1]]] = 0
        assert bright[inner > 0].all()
        np.testing.assert_allclose(box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1)


def test_an_object_at_the_border_keeps_a_box_of_what_is_left_or_goes():
    cut = square(10, (0, 0, 20, 100), (100, 100))  # of the upper pictures the upper 60 rows of 100 are cut away
    hidden = square(10, (0, 0, 20, 65), (100, 100))
    other = square(50, (1, 90, 9, 99), (100, 100))
    _, annotations = join([cut, other, other, other], (200, 200), (0.2, 0.5), min_visible=0.1)
    np.testing.assert_array_equal(annotations.boxes[0], [0, 0, 20, 40])
    for least, count in ((0.1, 3), (0.07, 4)):  # 5 rows of 65 are left
        _, annotations = join([hidden, other, other, other], (200, 200), (0.2, 0.5), min_visible=least)
        assert len(annotations) == count
    crowd = Labelled(hidden.image, replace(hidden.annotations, crowd=np.array([True])))
    _, annotations = join([crowd, other, other, other], (200, 200), (0.2, 0.5), min_visible=1)
    assert annotations.crowd.tolist() == [True, False, False, False]


def test_what_nobody_looked_for_in_one_part_is_unverified_in_all():
    flags = [None, np.array([True, False, False]), np.array([False, True, False]), None]
    samples = [square(10, (1, 1, 9, 9), unverified=flag) for flag in flags]
    _, annotations = join(samples, (200, 200), (0.5, 0.5), min_visible=0.1)
    assert annotations.unverified.tolist() == [True, True, False]
    samples = [square(10, (1, 1, 9, 9)) for _ in range(4)]
    assert join(samples, (200, 200), (0.5, 0.5), min_visible=0.1)[1].unverified is None


def test_stuff_and_unlabelled_boxes_of_single_parts_are_kept():
    stuff, boxes = np.full((100, 50), 7, np.uint8), np.array([[10, 20, 30, 40], [0, 0, 5, 5]], np.float32)
    plain = square(10, (1, 1, 9, 9))
    samples = [plain, square(10, (1, 1, 9, 9), stuff=stuff, unlabelled=boxes), plain, plain]
    _, annotations = join(samples, (200, 200), (0.5, 0.5), min_visible=0.1)
    expected = np.full((200, 200), 255)
    expected[:100, 100:150] = 7
    np.testing.assert_array_equal(annotations.stuff, expected)
    np.testing.assert_array_equal(annotations.unlabelled, boxes + np.array([100, 0, 100, 0]))


@pytest.mark.parametrize(("factor", "canvas_hw"), [(1.0, (80, 100)), (0.25, (20, 25)), (2.0, (80, 100))])
def test_a_factor_enlarges_parts_and_shrinks_the_canvas(factor, canvas_hw):
    samples = [square(10, (0, 0, 40, 32), (32, 40)) for _ in range(4)]
    image, annotations = join(samples, (80, 100), (0.5, 0.5), factor=factor, min_visible=0.1)
    assert image.shape == (3, *canvas_hw)
    side = min(2 * factor * 25, 50) if factor > 1 else canvas_hw[1] / 2
    np.testing.assert_allclose(annotations.boxes[3, 2:] - annotations.boxes[3, :2], [side, side * 0.8], atol=0.6)


@pytest.mark.parametrize("canvas_hw", [(1, 1), (1, 40), (2, 2), (3, 5)])
def test_the_smallest_canvases(canvas_hw):
    samples = [random_sample(i, (9, 7), 3)[0] for i in range(4)]
    image, annotations = join(samples, canvas_hw, (0.5, 0.5), min_visible=0.1)
    assert image.shape == (3, *canvas_hw)
    full(annotations.masks, canvas_hw)


def test_no_objects_stay_none():
    samples = [random_sample(i, (20, 30), 0)[0] for i in range(4)]
    _, annotations = join(samples, (40, 40), (0.5, 0.5), min_visible=0.1)
    assert annotations.boxes.shape == (0, 4)
    assert len(annotations.masks) == 0


def test_boxes_are_those_of_the_masks_where_nothing_is_resized():
    pairs = [random_sample(i, (50, 50), 6) for i in range(4)]
    _, annotations = join([pair[0] for pair in pairs], (100, 100), (0.3, 0.6), min_visible=0.1)
    np.testing.assert_array_equal(annotations.boxes, boxes_of(full(annotations.masks, (100, 100))))


def test_draws_are_as_many_whatever_comes_of_them():
    states = []
    for probability in (0.0, 1.0):
        chance = np.random.default_rng(0)
        layout = Mosaic(probability).draw(chance, 9)
        assert (layout is not None) == (probability == 1)
        states.append(chance.random())
    assert states[0] == states[1]
    drawn = [Mosaic(1.0).draw(np.random.default_rng(i), 3) for i in range(200)]
    assert {other for layout in drawn for other in layout.others} == {0, 1, 2}
    assert min(min(layout.point) for layout in drawn) >= 0.25
    assert max(max(layout.point) for layout in drawn) <= 0.75
