"""Anchors keep their exact area; torchvision's would be rounded."""

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from tis_ray.errors import ConfigError
from tis_ray.models.anchors.exact import ExactAnchors, build


def test_small_anchor_is_not_rounded() -> None:
    anchors = ExactAnchors([[8]], [0.5, 1.0, 2.0], strides=[4]).generate_anchors([8], [0.5, 1.0, 2.0])
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.full((3,), 64.0))
    torch.testing.assert_close(sides[0], torch.tensor([11.3137, 5.6569]), atol=1e-4, rtol=0)
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])


def test_orders_anchors_as_torchvision_does() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    scales, ratios = [32, 100], [0.5, 1.0, 2.0]
    exact = ExactAnchors([scales], ratios, strides=[4]).generate_anchors(scales, ratios)
    rounded = AnchorGenerator((scales,), (ratios,)).generate_anchors(scales, ratios)
    assert (exact - rounded).abs().max() <= 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_anchors_lie_on_the_strides_in_float32_whatever_the_maps_hold(dtype: torch.dtype) -> None:
    """On a frame 3200 px wide bfloat16 would move corners by 16 px, and 96 rows make 1.5 cells of stride 64."""
    height, width, strides = 96, 3200, (4, 64)
    maps = [torch.zeros(1, 8, -(-height // s), -(-width // s), dtype=dtype) for s in strides]
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    (anchors,) = ExactAnchors([[8], [128]], [1.0], strides=strides)(images, maps)
    assert anchors.dtype == torch.float32
    fine, coarse = anchors.split([24 * 800, 2 * 50])
    assert fine[-1].tolist() == [799 * 4 - 4, 23 * 4 - 4, 799 * 4 + 4, 23 * 4 + 4]
    assert coarse[-1].tolist() == [49 * 64 - 64, 64 - 64, 49 * 64 + 64, 64 + 64]


def test_equals_torchvision_where_its_strides_are_whole() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    maps = [torch.zeros(1, 8, 128 // s, 192 // s) for s in (4, 8)]
    images = ImageList(torch.zeros(1, 3, 128, 192), [(128, 192)])
    (expected,) = AnchorGenerator(((16,), (32,)), ((1.0,),) * 2)(images, maps)
    (anchors,) = ExactAnchors([[16], [32]], [1.0], strides=(4, 8))(images, maps)
    assert torch.equal(anchors, expected)


FPN = (4, 8, 16, 32, 64)


@pytest.mark.parametrize(
    ("strides", "sizes"),
    [
        pytest.param(FPN, ((32,), (64,), (128,), (256,), (512,)), id="a pyramid of five"),
        pytest.param(FPN[:4], ((32,), (64,), (128,), (256,)), id="a pyramid of four"),
        pytest.param((16,), ((32, 64, 128, 256, 512),), id="a single map"),
    ],
)
def test_default_sides_follow_the_neck(strides: tuple[int, ...], sizes: tuple[tuple[float, ...], ...]) -> None:
    anchors = build(strides)
    assert anchors.sizes == sizes
    assert anchors.num_anchors_per_location() == [3 * len(sizes[0])] * len(strides)


@pytest.mark.parametrize(
    ("strides", "sizes"),
    [
        pytest.param(FPN, ((8,), (16,)), id="too few levels"),
        pytest.param((16,), ((8,), (16,)), id="too many levels"),
        pytest.param((4, 8), ((8,), (16, 32)), id="the head is shared, so levels are alike"),
    ],
)
def test_sides_that_do_not_fit_the_neck_are_refused(
    strides: tuple[int, ...], sizes: tuple[tuple[float, ...], ...]
) -> None:
    with pytest.raises(ConfigError, match=rf"detector\.anchors: expected {len(strides)} levels"):
        build(strides, sizes=sizes)


def test_images_of_a_batch_share_their_anchors() -> None:
    images = ImageList(torch.zeros(2, 3, 64, 64), [(64, 64), (32, 50)])
    first, second = build((16,))(images, [torch.zeros(2, 8, 4, 4)])
    assert first is second
    assert first.shape == (4 * 4 * 15, 4)
