"""Anchors of exact size. torchvision rounds the corners of its base anchors to whole pixels, which turns an 8 px
anchor of ratio 0.5 into 12 x 6 (area 72, not 64): too coarse for tiny objects."""

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator


class ExactAnchors(AnchorGenerator):
    """torchvision's anchor generator without the rounding; ratios are height / width."""

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),
    ) -> Tensor:
        """Base anchors (len(ratios) * len(scales), 4) xyxy around the origin, ratio by ratio."""
        sides = torch.as_tensor(scales, dtype=dtype, device=device)
        root = torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        heights = (root[:, None] * sides[None, :]).flatten()
        widths = (sides[None, :] / root[:, None]).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2
