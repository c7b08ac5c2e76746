"""Pyramid Anchor: the sides that TIS gives, and every anchor kept on frames that it exceeds."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from tis_ray.errors import ConfigError
from tis_ray.models.anchors.pyramid import build

STRIDES = (4, 8, 16, 32, 64)
SIDES = ((8, 16), (32, 64), (128, 192), (256, 512), (1024, 2048))


def maps(height: int, width: int) -> list[Tensor]:
    """Feature maps of the five levels of a frame."""
    return [torch.zeros(1, 1, -(-height // stride), -(-width // stride)) for stride in STRIDES]


def test_sides_are_those_of_the_paper() -> None:
    assert build(STRIDES).sizes == SIDES


def test_six_anchors_lie_at_every_place_of_five_levels() -> None:
    assert build(STRIDES).num_anchors_per_location() == [6] * 5


def test_another_base_scales_all_sides() -> None:
    assert build(STRIDES, base=4).sizes == tuple((fine / 2, coarse / 2) for fine, coarse in SIDES)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (64, 192), (512, 704)])
def test_anchors_larger_than_the_frame_are_kept(size: tuple[int, int]) -> None:
    levels = maps(*size)
    (anchors,) = build(STRIDES)(ImageList(torch.zeros(1, 3, *size), [size]), levels)
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1).sqrt()
    counts = [6 * level.shape[-1] * level.shape[-2] for level in levels]
    for level, own in zip(SIDES, sides.split(counts), strict=True):
        assert set(own.round(decimals=2).tolist()) == set(level)


@pytest.mark.parametrize("strides", [(16,), STRIDES[:4]], ids=["c4", "four levels"])
def test_necks_of_other_than_five_levels_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"five levels; got a neck with {len(strides)}, of stride"):
        build(strides)
