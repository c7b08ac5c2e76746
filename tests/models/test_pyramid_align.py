"""RoI pooling from a pyramid: torchvision's answers, whether or not the device is waited for, and the context."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from tis_ray.models import pyramid_align
from tis_ray.models.context import ContextPooling
from tis_ray.models.pyramid_align import Pyramid, PyramidRoIAlign, enlarged
from tis_ray.models.roi_levels import fpn_levels, level_rule

STRIDES = (4, 8, 16, 32)
SIZES = [(512, 640), (512, 640)]


def pyramid(channels: int = 3, *, grad: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = [(2, channels, 512 // stride, 640 // stride) for stride in STRIDES]
    return {str(i): torch.randn(shape, requires_grad=grad) for i, shape in enumerate(shapes)}


def some_boxes(count: int, seed: int) -> Tensor:
    """From 1 px to the whole image, some beyond its border."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((count, 2), generator=generator) * 600 - 20
    return torch.cat([corners, corners + 600 ** torch.rand((count, 2), generator=generator)], dim=1)


BOXES = [some_boxes(40, 1), some_boxes(25, 2)]
PYRAMID = Pyramid(3, STRIDES, fpn_levels())
align = partial(PyramidRoIAlign, PYRAMID)


@pytest.fixture(params=["in turn", "at once"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid_align, "waiting_is_free", lambda device: request.param == "in turn")


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("boxes", [BOXES, [BOXES[0][:0], BOXES[1]], [BOXES[0][:0]] * 2], ids=["65", "25", "none"])
def test_regions_are_torchvisions(boxes: list[Tensor]) -> None:
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    expected = theirs(pyramid(), boxes, SIZES)
    torch.testing.assert_close(align(7)(pyramid(), boxes, SIZES), expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("waiting")
def test_gradients_reach_the_level_each_region_came_from() -> None:
    features, theirs = pyramid(grad=True), pyramid(grad=True)
    weight = torch.randn((65, 3, 7, 7), generator=torch.Generator().manual_seed(3))
    (align(7)(features, BOXES, SIZES) * weight).sum().backward()
    (MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)(theirs, BOXES, SIZES) * weight).sum().backward()
    for ours, expected in zip(features.values(), theirs.values(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-5, atol=1e-5)


def test_one_level_needs_no_rule() -> None:
    maps = pyramid()["2"]
    pool = PyramidRoIAlign(Pyramid(3, (16,), level_rule("fpn", [(32.0,)], (16,))), 5)
    torch.testing.assert_close(pool({"0": maps}, BOXES, SIZES), roi_align(maps, BOXES, 5, 1 / 16, 2))


def test_boxes_are_enlarged_about_their_centres_and_clipped() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 20], [0, 0, 20, 10], [50, 40, 60, 50]])
    expected = [[5.0, 7.5, 35, 22.5], [0, 0, 25, 12.5], [47.5, 37.5, 60, 50]]
    assert enlarged(boxes, 1.5, (50, 60)).tolist() == expected
    assert enlarged(boxes[:0], 1.5, (50, 60)).shape == (0, 4)


def test_context_is_pooled_from_the_regions_own_level() -> None:
    """A box just below 112 px is pooled from stride 4; enlarged it would be pooled from stride 8 by itself."""
    features, boxes = pyramid(), [torch.tensor([[100.0, 100, 205, 205]]), BOXES[1][:0]]
    added = ContextPooling(align(7), factor=1.5, merge="add")(features, boxes, SIZES)
    around = [enlarged(boxes[0], 1.5, SIZES[0]), boxes[1]]
    expected = sum(roi_align(features["0"], each, 7, 1 / 4, 2) for each in (boxes, around))
    torch.testing.assert_close(added, expected)


@pytest.mark.parametrize("count", [0, 5])
def test_context_is_merged_to_as_many_channels(count: int) -> None:
    pool = ContextPooling(align(7), factor=2.0, merge="concat")
    merged = pool(pyramid(), [BOXES[0][:count], BOXES[1][:0]], SIZES)
    assert merged.shape == (count, 3, 7, 7)
    merged.sum().backward()
    assert pool.merge.weight.grad is not None
