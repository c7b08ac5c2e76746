"""Random samples whose masks are known at full size, for comparing crops with what the same does to full masks."""

import numpy as np
import torch
from numpy.typing import NDArray

from tis_ray.data.transforms import Labelled
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks

FullMasks = NDArray[np.uint8]  # (N, H, W)


def random_sample(seed: int, size_hw: tuple[int, int], count: int) -> tuple[Labelled, FullMasks]:
    """`count` ragged objects, object i of label i and every third one a crowd, in an image with stuff."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    masks = np.zeros((count, height, width), np.uint8)
    for mask in masks:
        y, x = rng.integers(height), rng.integers(width)
        mask[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = 1
        mask &= rng.random(mask.shape) < 0.8
        mask[y, x] = 1
    crops = crops_of(masks)
    annotations = Annotations(
        crops.boxes(),
        np.arange(count, dtype=np.int32),
        crops,
        np.arange(count) % 3 == 2,
        stuff=rng.integers(0, 5, size_hw, dtype=np.uint8),
    )
    image = torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).permute(2, 0, 1)
    return Labelled(image, annotations), masks


def crops_of(masks: FullMasks) -> CropMasks:
    """The tight crops of full masks that have pixels."""
    boxes = boxes_of(masks).astype(np.int32)
    parts = [mask[y1:y2, x1:x2] for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True)]
    return CropMasks(boxes[:, :2], tuple(parts))


def boxes_of(masks: FullMasks) -> NDArray[np.float32]:
    """The tight boxes (N, 4) of full masks that have pixels."""
    found = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(found, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return found


def full(masks: CropMasks, size_hw: tuple[int, int]) -> FullMasks:
    """Full masks of crops; a crop that exceeds the image fails."""
    pasted = np.zeros((len(masks), *size_hw), np.uint8)
    for canvas, part, (x, y) in zip(pasted, masks.crops, masks.offsets, strict=True):
        assert x >= 0
        assert y >= 0
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return pasted


def resized(masks: FullMasks, size_hw: tuple[int, int]) -> FullMasks:
    """Full masks at another size, by PyTorch."""
    if not len(masks):
        return np.zeros((0, *size_hw), np.uint8)
    return torch.nn.functional.interpolate(torch.from_numpy(masks.copy())[None], size_hw, mode="nearest-exact")[
        0
    ].numpy()


def turned(pixels: NDArray[np.uint8], degrees: float, fill: int = 0) -> NDArray[np.uint8]:
    """A picture (H, W) turned counter-clockwise about its middle: each new pixel by the point its centre came from."""
    height, width = pixels.shape
    y, x = np.mgrid[:height, :width] + 0.5 - np.array([height / 2, width / 2])[:, None, None]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    old_x, old_y = np.floor(cos * x - sin * y + width / 2), np.floor(sin * x + cos * y + height / 2)
    inside = (old_x >= 0) & (old_x < width) & (old_y >= 0) & (old_y < height)
    out = np.full_like(pixels, fill)
    out[inside] = pixels[old_y[inside].astype(int), old_x[inside].astype(int)]
    return out
