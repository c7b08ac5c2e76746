"""Ten thousand patches to RLE, pixel for pixel as torchvision and detectron2 paste and pycocotools encodes them."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks, paste_mask_in_image

from tis_ray.ops import rle as rle_ops
from tis_ray.ops.patch_runs import paste
from tis_ray.ops.rle import from_runs

# pycocotools hands NumPy an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH, SIZE = 271, 338, 28
KINDS = ("tiny", "medium", "left", "top", "right", "bottom", "below a pixel", "whole image", "beyond", "outside")


def boxes_of(kind, rng, count):
    """Boxes (N, 4) of one kind in an image of WIDTH x HEIGHT, most of which share pixels with it."""
    size = np.array([WIDTH, HEIGHT])
    centre = rng.uniform(0, 1, (count, 2)) * size
    half = rng.uniform(1, 16, (count, 2)) if kind == "tiny" else rng.uniform(5, 80, (count, 2))
    if kind in ("left", "right"):
        centre[:, 0] = (kind == "right") * WIDTH + rng.uniform(-1, 1, count) * half[:, 0]
    elif kind in ("top", "bottom"):
        centre[:, 1] = (kind == "bottom") * HEIGHT + rng.uniform(-1, 1, count) * half[:, 1]
    elif kind == "below a pixel":
        half = rng.uniform(0.01, 0.6, (count, 2))
    elif kind == "whole image":
        centre, half = np.tile(size / 2, (count, 1)), np.tile(size / 2, (count, 1))
    elif kind == "beyond":
        half = rng.uniform(0.5, 1.5, (count, 2)) * size
    elif kind == "outside":
        centre = size + half + rng.uniform(20, 200, (count, 2))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def patches(rng, count):
    """Blobs as a mask head gives them, with noise and exact 0.5; a tenth are below the threshold throughout."""
    coarse = torch.from_numpy(rng.random((count, 1, 4, 4)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")[:, 0].numpy()
    noisy = np.clip(smooth + rng.normal(0, 0.05, smooth.shape), 0, 1)
    noisy[rng.random(noisy.shape) < 0.02] = 0.5  # seldom four together, where the peers' own rounding decides
    noisy[: count // 10] *= 0.45
    return noisy.astype(np.float16)


def torchvision_values(probabilities, boxes, height=HEIGHT, width=WIDTH):
    """torchvision's probabilities (height, width) of each patch, one at a time; it fails where box and image miss."""
    masks, scale = expand_masks(torch.from_numpy(probabilities.astype(np.float32))[:, None], padding=1)
    frames = expand_boxes(torch.from_numpy(boxes), scale).to(torch.int64)
    for mask, frame in zip(masks, frames, strict=True):
        outside = frame[0] >= width or frame[1] >= height
        yield np.zeros((height, width)) if outside else paste_mask_in_image(mask[0], frame, height, width).numpy()


def detectron2_values(probabilities, boxes, height=HEIGHT, width=WIDTH):
    """Its probabilities (height, width) of each patch: the whole image samples the patch at its pixels' centres."""
    for patch, (x1, y1, x2, y2) in zip(probabilities, torch.from_numpy(boxes), strict=True):
        x = (torch.arange(width, dtype=torch.float32) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(height, dtype=torch.float32) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=2)
        patch = torch.from_numpy(patch.astype(np.float32))
        yield torch.nn.functional.grid_sample(patch[None, None], grid[None], align_corners=False)[0, 0].numpy()


PEERS = {
    "torchvision": (torchvision_values, np.greater),
    "detectron2": (detectron2_values, np.greater_equal),
}


@pytest.mark.parametrize("pasting", PEERS)
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_boxes_equal_the_peer_and_pycocotools(count, pasting):
    values_of, compare = PEERS[pasting]
    rng = np.random.default_rng(count)
    differing = pixels = 0
    for kind in KINDS:
        boxes, probabilities = boxes_of(kind, rng, count // len(KINDS)), patches(rng, count // len(KINDS))
        rles = from_runs(paste(probabilities, boxes, HEIGHT, WIDTH, pasting=pasting))
        for rle, values in zip(rles, values_of(probabilities, boxes), strict=True):
            wanted = compare(values, 0.5)
            pixels += int(np.count_nonzero(values))
            expected = coco_mask.encode(np.asfortranarray(wanted, dtype=np.uint8))
            if rle != {"size": expected["size"], "counts": expected["counts"].decode()}:
                found = coco_mask.decode({**rle, "counts": rle["counts"].encode()}) > 0
                wrong = found != wanted
                assert np.abs(values[wrong] - 0.5).max() < 1e-6, kind
                differing += int(wrong.sum())
    assert pixels > 10_000 * count
    assert differing <= 1 + pixels / 10_000_000


@pytest.mark.parametrize("pasting", PEERS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1)])
def test_images_of_one_pixel_or_one_line_equal_the_peer(height, width, pasting):
    values_of, compare = PEERS[pasting]
    boxes = np.float32([[0, 0, width, height], [-3.3, -2.2, width * 0.7, height + 1], [0.2, 0.2, 0.4, 0.4]])
    probabilities = patches(np.random.default_rng(1), 3)
    rles = from_runs(paste(probabilities, boxes, height, width, pasting=pasting))
    for rle, values in zip(rles, values_of(probabilities, boxes, height, width), strict=True):
        found = coco_mask.decode({**rle, "counts": rle["counts"].encode()})
        np.testing.assert_array_equal(found, compare(values, 0.5))


@pytest.mark.parametrize("pasting", PEERS)
def test_a_box_without_area_is_pasted_as_the_peer_does(pasting):
    values_of, compare = PEERS[pasting]
    boxes = np.float32([[10, 10, 10, 30], [10, 10, 30, 10], [20.5, 20.5, 20.5, 20.5]])
    probabilities = np.ones((3, SIZE, SIZE), np.float16)
    rles = from_runs(paste(probabilities, boxes, HEIGHT, WIDTH, pasting=pasting))
    wanted = [compare(values, 0.5).sum() for values in values_of(probabilities, boxes)]
    assert rle_ops.areas(rles).tolist() == wanted
