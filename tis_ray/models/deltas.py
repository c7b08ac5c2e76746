"""Boxes as offsets from other boxes (Girshick et al. 2014): what anchors and regions are refined by.

A delta is the move of the centre in sides of the reference box and the logarithm of how much its sides grow, each
times a weight. The numbers are torchvision's `BoxCoder`'s; that one copies constants to the device, and waits for it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SMOOTH_L1_BETA = 1 / 9  # torchvision's; where the loss of a delta turns from square to linear
# A side grows to at most 62.5 times its length: exp() of a wild delta overflows.
MAX_LOG_GROWTH = math.log(1000 / 16)


def encode(boxes: Tensor, references: Tensor, *, weights: Sequence[float]) -> Tensor:
    """Deltas (N, 4) that turn `references` (N, 4) into `boxes` (N, 4), both xyxy."""
    sides, own = references[:, 2:] - references[:, :2], boxes[:, 2:] - boxes[:, :2]
    moved = (boxes[:, :2] + own / 2 - references[:, :2] - sides / 2) / sides
    grown = (own / sides).log()
    return torch.stack([value * weight for value, weight in zip(_columns(moved, grown), weights, strict=True)], dim=1)


def decode(deltas: Tensor, references: Tensor, *, weights: Sequence[float]) -> Tensor:
    """Boxes (N, K, 4) that deltas (N, K, 4) make of `references` (N, 4), xyxy and not clipped."""
    corners = references[:, None]
    sides = corners[..., 2:] - corners[..., :2]
    x, y, w, h = (value / weight for value, weight in zip(deltas.unbind(dim=-1), weights, strict=True))
    centres = corners[..., :2] + sides / 2 + torch.stack([x, y], dim=-1) * sides
    half = torch.stack([w, h], dim=-1).clamp(max=MAX_LOG_GROWTH).exp() * sides / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def _columns(moved: Tensor, grown: Tensor) -> tuple[Tensor, ...]:
    return *moved.unbind(dim=1), *grown.unbind(dim=1)
