"""Anchors keep their exact area; torchvision's would be rounded."""

import torch

from tis_ray.models.anchors import ExactAnchors


def test_small_anchor_is_not_rounded() -> None:
    anchors = ExactAnchors(((8,),), ((0.5, 1.0, 2.0),)).generate_anchors([8], [0.5, 1.0, 2.0])
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.full((3,), 64.0))
    torch.testing.assert_close(sides[0], torch.tensor([11.3137, 5.6569]), atol=1e-4, rtol=0)
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])


def test_orders_anchors_as_torchvision_does() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    scales, ratios = [32, 100], [0.5, 1.0, 2.0]
    exact = ExactAnchors((scales,), (ratios,)).generate_anchors(scales, ratios)
    rounded = AnchorGenerator((scales,), (ratios,)).generate_anchors(scales, ratios)
    assert (exact - rounded).abs().max() <= 0.5
