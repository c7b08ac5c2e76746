"""Pyramid Anchor: the sides that TIS gives, and every anchor kept on frames that it exceeds."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.anchors.pyramid import build
from tis_ray.models.assembly import build_detector
from tis_ray.models.targets import to_targets

SIDES = ((8, 16), (32, 64), (128, 192), (256, 512), (1024, 2048))


def maps(height: int, width: int) -> list[Tensor]:
    """Feature maps of the five levels of a frame."""
    return [torch.zeros(1, 1, -(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32, 64)]


def test_sides_are_those_of_the_paper() -> None:
    assert build().sizes == SIDES


def test_six_anchors_lie_at_every_place_of_five_levels() -> None:
    assert build().num_anchors_per_location() == [6] * 5


def test_another_base_scales_all_sides() -> None:
    assert build(base=4).sizes == tuple((fine / 2, coarse / 2) for fine, coarse in SIDES)


@pytest.mark.parametrize("size", [(64, 64), (64, 192), (512, 704)])
def test_anchors_larger_than_the_frame_are_kept(size: tuple[int, int]) -> None:
    levels = maps(*size)
    (anchors,) = build()(ImageList(torch.zeros(1, 3, *size), [size]), levels)
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1).sqrt()
    counts = [6 * level.shape[-1] * level.shape[-2] for level in levels]
    for level, own in zip(SIDES, sides.split(counts), strict=True):
        assert set(own.round(decimals=2).tolist()) == set(level)


def test_an_object_that_fills_the_frame_has_a_positive_anchor() -> None:
    """No anchor overlaps it by 0.7; its best one counts all the same."""
    section = parse(DetectorSection, {**TINY_DETECTOR, "anchors": "pyramid"}, source="test")
    rpn = build_detector(section, CATEGORIES).rpn
    size = (320, 448)
    (anchors,) = rpn.anchor_generator(ImageList(torch.zeros(1, 3, *size), [size]), maps(*size))
    objects = np.array([(0, 0, 448, 320), (100, 100, 103, 103)], np.int32)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in objects)
    masks = CropMasks(objects[:, :2].copy(), crops)
    truth = Annotations(objects.astype(np.float32), np.zeros(2, np.int32), masks, np.zeros(2, bool))
    targets = to_targets([truth], [size], torch.device("cpu"))
    (labels,), (boxes,) = rpn.assign_targets_to_anchors([anchors], targets)
    assert boxes[labels == 1].unique(dim=0).tolist() == objects.tolist()
