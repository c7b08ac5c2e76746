"""Boxes as deltas: there and back, and torchvision's numbers."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from tis_ray.models.deltas import MAX_LOG_GROWTH, decode, encode

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (30.0, 20.0, 15.0, 5.0)]


def boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((count, 2), generator=generator) * 3000
    return torch.cat([corners, corners + 1 + torch.rand((count, 2), generator=generator) * 400], dim=1)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("count", [0, 1, 50])
def test_equal_torchvisions(weights: tuple[float, ...], count: int) -> None:
    coder, references, wanted = BoxCoder(weights), boxes(count, 0), boxes(count, 1)
    deltas = coder.encode_single(wanted, references)
    torch.testing.assert_close(encode(wanted, references, weights=weights), deltas, rtol=1e-4, atol=1e-3)
    several = torch.randn((count, 3, 4), generator=torch.Generator().manual_seed(2))
    expected = coder.decode_single(several.flatten(1), references).view(count, 3, 4)
    torch.testing.assert_close(decode(several, references, weights=weights), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_decoding_undoes_encoding(weights: tuple[float, ...]) -> None:
    references, wanted = boxes(50, 0).double(), boxes(50, 1).double()
    deltas = encode(wanted, references, weights=weights)
    torch.testing.assert_close(decode(deltas[:, None], references, weights=weights)[:, 0], wanted)


def test_a_wild_delta_does_not_overflow() -> None:
    wild = torch.tensor([[[0.0, 0.0, 1e4, 1e4]]])
    (((x1, y1, x2, y2),),) = decode(wild, torch.tensor([[10.0, 10.0, 12.0, 14.0]]), weights=(1, 1, 1, 1)).tolist()
    growth = torch.tensor(MAX_LOG_GROWTH).exp().item()
    assert x2 - x1 == pytest.approx(2 * growth)
    assert y2 - y1 == pytest.approx(4 * growth)
