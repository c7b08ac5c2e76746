"""Targets sampled from packed crops equal torchvision's RoIAlign on full-frame masks."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from tis_ray.masks import CropMasks
from tis_ray.models import mask_targets
from tis_ray.models.mask_targets import PackedCrops

HEIGHT, WIDTH = 90, 120


def random_masks(rng: np.random.Generator, count: int) -> tuple[CropMasks, torch.Tensor]:
    crops, offsets, full = [], [], np.zeros((count, HEIGHT, WIDTH), np.uint8)
    for mask in full:
        w, h = rng.integers(1, 60, 2)
        x, y = rng.integers(0, WIDTH - w + 1), rng.integers(0, HEIGHT - h + 1)
        crops.append((rng.random((h, w)) > 0.3).astype(np.uint8))
        offsets.append((x, y))
        mask[y : y + h, x : x + w] = crops[-1]
    return CropMasks(np.array(offsets, np.int32), tuple(crops)), torch.from_numpy(full)


def random_rois(rng: np.random.Generator, count: int) -> torch.Tensor:
    corner = rng.uniform(0, 80, (count, 2))
    side = rng.uniform(0.1, 70, (count, 2))
    return torch.tensor(np.concatenate([corner, corner + side], axis=1), dtype=torch.float32).clamp(max=HEIGHT)


@pytest.mark.parametrize("max_points", [mask_targets.MAX_POINTS, 5000], ids=["one chunk", "many chunks"])
def test_equals_roi_align_on_full_masks(monkeypatch: pytest.MonkeyPatch, max_points: int) -> None:
    monkeypatch.setattr(mask_targets, "MAX_POINTS", max_points)
    rng = np.random.default_rng(0)
    masks, full = random_masks(rng, 6)
    rois = random_rois(rng, 200)
    index = torch.from_numpy(rng.integers(0, 6, 200))
    expected = roi_align(full[:, None].float(), torch.cat([index[:, None].float(), rois], dim=1), 28)[:, 0]
    sampled = PackedCrops.pack(masks, (HEIGHT, WIDTH)).sample(rois, index, 28)
    torch.testing.assert_close(sampled, expected, atol=1e-5, rtol=0)


def test_whole_image_object_and_roi() -> None:
    masks = CropMasks(np.zeros((1, 2), np.int32), (np.ones((HEIGHT, WIDTH), np.uint8),))
    packed = PackedCrops.pack(masks, (HEIGHT, WIDTH))
    sampled = packed.sample(torch.tensor([[0.0, 0, WIDTH, HEIGHT]]), torch.tensor([0]), 14)
    assert sampled.min() == pytest.approx(1)


@pytest.mark.parametrize(
    ("crops", "rois"),
    [((), 0), ((np.zeros((0, 0), np.uint8),), 2), ((np.ones((3, 3), np.uint8),), 0)],
    ids=["no objects", "an empty mask", "no RoIs"],
)
def test_empty_inputs_give_empty_targets(crops: tuple[np.ndarray, ...], rois: int) -> None:
    packed = PackedCrops.pack(CropMasks(np.zeros((len(crops), 2), np.int32), crops), (10, 10))
    sampled = packed.sample(torch.ones((rois, 4)), torch.zeros(rois, dtype=torch.long), 28)
    assert sampled.shape == (rois, 28, 28)
    assert not sampled.any()


def test_areas_count_set_pixels() -> None:
    masks, full = random_masks(np.random.default_rng(3), 5)
    assert PackedCrops.pack(masks, (HEIGHT, WIDTH)).areas.tolist() == full.flatten(1).sum(dim=1).tolist()
    assert PackedCrops.pack(CropMasks(np.zeros((0, 2), np.int32), ()), (9, 9)).areas.shape == (0,)
