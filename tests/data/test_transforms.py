"""Transforms of a picture and its ground truth, against the same done to full masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tis_ray.data import transforms
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks

HEIGHT, WIDTH = 37, 53


def crops(full: NDArray[np.uint8]) -> CropMasks:
    """The tight crops of full masks (N, H, W)."""
    offsets, parts = [], []
    for mask in full:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        offsets.append((columns[0], rows[0]))
        parts.append(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return CropMasks(np.array(offsets, dtype=np.int32).reshape(-1, 2), tuple(parts))


def full(masks: CropMasks, height: int, width: int) -> NDArray[np.uint8]:
    """Full masks (N, H, W) of crops."""
    pasted = np.zeros((len(masks), height, width), np.uint8)
    for canvas, part, (x, y) in zip(pasted, masks.crops, masks.offsets, strict=True):
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return pasted


@pytest.fixture
def sample() -> tuple[torch.Tensor, Annotations, NDArray[np.uint8]]:
    """An image whose red channel is 200 inside the one box-filling object; two ragged objects beside it."""
    rng = np.random.default_rng(3)
    masks = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    masks[0, 5:25, 8:40] = 1
    masks[1, 30:36, 1:9] = rng.integers(0, 2, (6, 8))
    masks[2, 2:20, 44:53] = rng.integers(0, 2, (18, 9))
    image = torch.zeros((3, HEIGHT, WIDTH), dtype=torch.uint8)
    image[0] = torch.from_numpy(masks[0] * 200)
    packed = crops(masks)
    annotations = Annotations(packed.boxes(), np.array([0, 1, 2], np.int32), packed, np.array([False, True, False]))
    return image, annotations, masks


@pytest.mark.parametrize("size_hw", [(74, 106), (20, 31), (50, 53), (37, 200), (7, 5)])
def test_resize_moves_masks_as_interpolating_full_masks_does(sample, size_hw):
    image, annotations, masks = sample
    resized, moved = transforms.resize(image, annotations, size_hw)
    expected = torch.nn.functional.interpolate(torch.from_numpy(masks)[:, None].float(), size_hw, mode="nearest-exact")
    assert resized.shape == (3, *size_hw)
    assert resized.dtype == torch.uint8
    np.testing.assert_array_equal(full(moved.masks, *size_hw), expected[:, 0].numpy().astype(np.uint8))


@pytest.mark.parametrize("size_hw", [(74, 106), (20, 31), (37, 200)])
def test_resize_scales_boxes_by_the_rounded_sizes(sample, size_hw):
    image, annotations, _ = sample
    _, moved = transforms.resize(image, annotations, size_hw)
    for old, new in zip(annotations.boxes, moved.boxes, strict=True):
        expected = [
            old[0] * size_hw[1] / WIDTH,
            old[1] * size_hw[0] / HEIGHT,
            old[2] * size_hw[1] / WIDTH,
            old[3] * size_hw[0] / HEIGHT,
        ]
        np.testing.assert_allclose(new, expected, rtol=1e-6)


def test_resize_keeps_pixels_under_their_box(sample):
    image, annotations, _ = sample
    resized, moved = transforms.resize(image, annotations, (111, 159))  # three times as large
    rows, columns = np.flatnonzero(resized[0].amax(1) > 100), np.flatnonzero(resized[0].amax(0) > 100)
    np.testing.assert_allclose(moved.boxes[0], [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1)


def test_flip_mirrors_image_masks_and_boxes_together(sample):
    image, annotations, masks = sample
    flipped, moved = transforms.hflip(image, annotations)
    np.testing.assert_array_equal(flipped.numpy(), image.numpy()[:, :, ::-1])
    np.testing.assert_array_equal(full(moved.masks, HEIGHT, WIDTH), masks[:, :, ::-1])
    np.testing.assert_array_equal(moved.boxes, crops(masks[:, :, ::-1]).boxes())
    assert moved.labels.tolist() == [0, 1, 2]
    assert moved.crowd.tolist() == [False, True, False]


def test_two_flips_give_the_sample_back(sample):
    image, annotations, masks = sample
    again, moved = transforms.hflip(*transforms.hflip(image, annotations))
    assert torch.equal(again, image)
    np.testing.assert_array_equal(moved.boxes, annotations.boxes)
    np.testing.assert_array_equal(full(moved.masks, HEIGHT, WIDTH), masks)


def test_inputs_are_left_alone(sample):
    image, annotations, masks = sample
    before = image.clone(), annotations.boxes.copy()
    transforms.hflip(*transforms.resize(image, annotations, (20, 30)))
    assert torch.equal(image, before[0])
    np.testing.assert_array_equal(annotations.boxes, before[1])
    np.testing.assert_array_equal(full(annotations.masks, HEIGHT, WIDTH), masks)


def test_an_image_without_objects_passes_through(sample):
    image, annotations, _ = sample
    resized, moved = transforms.hflip(*transforms.resize(image, annotations[[]], (10, 20)))
    assert resized.shape == (3, 10, 20)
    assert len(moved) == 0
    assert len(transforms.without_degenerate(moved)) == 0


def test_boxes_without_area_are_dropped(sample):
    _, annotations, _ = sample
    boxes = annotations.boxes.copy()
    boxes[1, 2] = boxes[1, 0]
    flat = Annotations(boxes, annotations.labels, annotations.masks, annotations.crowd)
    assert transforms.without_degenerate(flat).labels.tolist() == [0, 2]


@pytest.mark.parametrize("box", [(0, 0, WIDTH, HEIGHT), (10, 8, 47, 33), (0, 0, 9, 31), (45, 30, 53, 37)])
def test_crop_cuts_picture_boxes_and_masks_alike(sample, box):
    image, annotations, masks = sample
    x1, y1, x2, y2 = box
    cut, moved = transforms.crop(image, annotations, box)
    assert torch.equal(cut, image[:, y1:y2, x1:x2])
    expected = masks[:, y1:y2, x1:x2]
    kept = ~annotations.crowd | expected.any(axis=(1, 2))
    assert moved.crowd.tolist() == annotations.crowd[kept].tolist()
    np.testing.assert_array_equal(full(moved.masks, y2 - y1, x2 - x1), expected[kept])
    held = moved.masks.areas() > 0
    pasted = full(moved.masks, y2 - y1, x2 - x1)[held]
    for mask, (left, top, right, bottom) in zip(pasted, moved.boxes[held], strict=True):
        assert not np.delete(mask, np.arange(int(left), int(right)), axis=1).any()
        assert not np.delete(mask, np.arange(int(top), int(bottom)), axis=0).any()


def test_regions_of_any_class_pass_every_transform(sample):
    image, annotations, _ = sample
    labels = np.where(annotations.crowd, -1, annotations.labels).astype(np.int32)
    truth = Annotations(annotations.boxes, labels, annotations.masks, annotations.crowd)
    image, truth = transforms.crop(image, truth, (0, 0, WIDTH, HEIGHT))
    image, truth = transforms.resize(image, truth, (HEIGHT * 2, WIDTH * 2))
    image, truth = transforms.hflip(image, truth)
    truth = transforms.without_degenerate(truth)
    assert truth.labels.tolist() == labels.tolist()
    assert truth.crowd.tolist() == annotations.crowd.tolist()
    assert truth.masks.areas().tolist() == (annotations.masks.areas() * 4).tolist()


@pytest.fixture
def mapped(sample) -> tuple[torch.Tensor, Annotations]:
    """The sample with a map of stuff."""
    stuff = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    return sample[0], replace(sample[1], stuff=stuff)


def test_stuff_is_cropped_and_mirrored_with_its_picture(mapped):
    image, annotations = mapped
    _, cut = transforms.crop(image, annotations, (10, 8, 47, 33))
    np.testing.assert_array_equal(cut.stuff, annotations.stuff[8:33, 10:47])
    _, flipped = transforms.hflip(image, annotations)
    np.testing.assert_array_equal(flipped.stuff, annotations.stuff[:, ::-1])


@pytest.mark.parametrize("size_hw", [(74, 106), (20, 31), (50, 53), (37, 200), (7, 5)])
def test_stuff_is_resized_as_masks_are(mapped, size_hw):
    image, annotations = mapped
    _, moved = transforms.resize(image, annotations, size_hw)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(annotations.stuff)[None, None].float(), size_hw, mode="nearest-exact"
    )
    assert moved.stuff.dtype == np.uint8
    np.testing.assert_array_equal(moved.stuff, expected[0, 0].numpy())


def test_stuff_is_the_image_s_whichever_objects_are_kept(mapped):
    _, annotations = mapped
    assert transforms.without_degenerate(annotations[[0]]).stuff is annotations.stuff
    assert annotations[[]].stuff is annotations.stuff
