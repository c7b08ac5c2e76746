"""The Valid Training Region: a known answer, what it never cuts, when it grows, and how often it is taken."""

import numpy as np
import pytest
import torch

from tis_ray.data import transforms
from tis_ray.data.regions import ValidTrainingRegion
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks


def annotated(*boxes, crowd=()):
    """Objects that fill their whole-pixel boxes; those numbered in `crowd` are regions of any class."""
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    crops = tuple(np.ones((int(y2 - y1), int(x2 - x1)), np.uint8) for x1, y1, x2, y2 in array)
    masks = CropMasks(array[:, :2].astype(np.int32), crops)
    ignored = np.isin(np.arange(len(array)), crowd)
    return Annotations(array, np.where(ignored, -1, 0).astype(np.int32), masks, ignored)


def drawn(annotations, size_hw, *, margin=50.0, seed=0):
    always = ValidTrainingRegion(1.0, (margin, margin) if isinstance(margin, float) else margin)
    return always.draw(np.random.default_rng(seed), annotations, size_hw)


def test_two_objects_with_a_margin_of_50():
    """By hand: union (100, 200, 900, 700) in 1000x800 becomes (50, 150, 950, 750)."""
    truth = annotated((100, 200, 300, 400), (500, 250, 900, 700))
    box = drawn(truth, (800, 1000))
    assert box == (50, 150, 950, 750)
    image = torch.arange(800 * 1000).reshape(1, 800, 1000)
    cut, moved = transforms.crop(image, truth, box)
    assert torch.equal(cut, image[:, 150:750, 50:950])
    np.testing.assert_array_equal(moved.boxes, [[50, 50, 250, 250], [450, 100, 850, 550]])
    np.testing.assert_array_equal(moved.masks.boxes(), moved.boxes)


@pytest.mark.parametrize(
    ("boxes", "size_hw", "margin", "expected"),
    [
        pytest.param([(0, 0, 1000, 800)], (800, 1000), 50.0, (0, 0, 1000, 800), id="margins end at the borders"),
        pytest.param([(300.5, 100.5, 700.5, 500.5)], (800, 1000), 0.0, (300, 100, 701, 501), id="rounded outwards"),
        pytest.param([(500, 400, 510, 410)], (800, 1000), 0.0, (377, 277, 633, 533), id="256 px about its middle"),
        pytest.param([(0, 790, 10, 800)], (800, 1000), 0.0, (0, 544, 256, 800), id="grows inwards at a corner"),
        pytest.param([(40, 40, 50, 50)], (100, 2000), 0.0, (0, 0, 256, 100), id="no more than the image has"),
        pytest.param([(0, 1650, 3384, 1700)], (2710, 3384), 0.0, (0, 1252, 3384, 2098), id="sides of 4 to 1"),
        pytest.param([(900, 0, 910, 2000)], (2000, 3000), 0.0, (655, 0, 1155, 2000), id="upright, 4 to 1"),
    ],
)
def test_regions_by_hand(boxes, size_hw, margin, expected):
    assert drawn(annotated(*boxes), size_hw, margin=margin) == expected


def test_objects_are_never_cut_and_regions_have_their_shape():
    rng = np.random.default_rng(0)
    region = ValidTrainingRegion(1.0, (0.0, 100.0))
    for _ in range(300):
        height, width = (int(side) for side in rng.integers(20, 1500, 2))
        corner = rng.uniform(0, 0.99, (3, 2)) * (width, height)
        far = corner + rng.uniform(0, 1, (3, 2)) ** 3 * ((width, height) - corner)
        boxes = np.concatenate([corner, np.maximum(far, np.minimum(corner + 1, (width, height)))], axis=1)
        truth = annotated(*np.stack([*np.floor(boxes[:, :2]).T, *np.ceil(boxes[:, 2:]).T], axis=1))
        x1, y1, x2, y2 = region.draw(rng, truth, (height, width))
        assert 0 <= x1 <= truth.boxes[:, 0].min()
        assert truth.boxes[:, 2].max() <= x2 <= width
        assert 0 <= y1 <= truth.boxes[:, 1].min()
        assert truth.boxes[:, 3].max() <= y2 <= height
        assert x2 - x1 >= min(256, width)
        assert y2 - y1 >= min(256, height)
        assert max(x2 - x1, y2 - y1) <= 4 * min(x2 - x1, y2 - y1) or min(x2 - x1, y2 - y1) in (width, height)


def test_regions_to_ignore_do_not_widen_it_and_are_cut():
    truth = annotated((400, 400, 700, 700), (300, 390, 500, 420), (900, 0, 1000, 50), crowd=(1, 2))
    box = drawn(truth, (800, 1000))
    assert box == (350, 350, 750, 750)
    _, moved = transforms.crop(torch.zeros(3, 800, 1000, dtype=torch.uint8), truth, box)
    assert moved.crowd.tolist() == [False, True]
    assert moved.labels.tolist() == [0, -1]
    np.testing.assert_array_equal(moved.boxes, [[50, 50, 350, 350], [0, 40, 150, 70]])
    assert moved.masks.areas().tolist() == [300 * 300, 150 * 30]


def test_without_objects_it_is_the_whole_image():
    assert drawn(annotated(), (800, 1000)) is None
    assert drawn(annotated((300, 390, 500, 420), crowd=(0,)), (800, 1000)) is None


def test_margins_are_drawn_for_each_side():
    truth, sides = annotated((400, 400, 1000, 1000)), []
    for seed in range(400):
        x1, y1, x2, y2 = drawn(truth, (1500, 1500), margin=(0.0, 100.0), seed=seed)
        sides.append((400 - x1, 400 - y1, x2 - 1000, y2 - 1000))
    sides = np.array(sides)
    assert (sides.min(axis=0) >= 0).all()
    assert (sides.max(axis=0) <= 100).all()
    assert (abs(sides.mean(axis=0) - 50.5) < 6).all()
    assert abs(np.corrcoef(sides.T) - np.eye(4)).max() < 0.2


def test_the_probability_is_that_of_the_region():
    truth, chance = annotated((400, 400, 700, 700)), np.random.default_rng(0)
    half = ValidTrainingRegion(0.5)
    taken = sum(half.draw(chance, truth, (800, 1000)) is not None for _ in range(1000))
    assert 440 < taken < 560
    assert ValidTrainingRegion(0.0).draw(chance, truth, (800, 1000)) is None


def test_the_same_numbers_are_drawn_whatever_comes_of_them():
    states = []
    for region in (ValidTrainingRegion(0.0), ValidTrainingRegion(1.0), ValidTrainingRegion(1.0, (0.0, 100.0))):
        for truth in (annotated(), annotated((400, 400, 700, 700))):
            chance = np.random.default_rng(5)
            region.draw(chance, truth, (800, 1000))
            states.append(chance.random())
    assert len(set(states)) == 1
