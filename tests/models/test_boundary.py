"""Contours of mask targets, and what is learnt of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.host_waits import host_waits
from tis_ray.models.boundary import boundary_loss, boundary_targets


def laplacian(masks: Tensor) -> Tensor:
    """As the paper says it: eight times a pixel less its neighbours, where that is positive."""
    kernel = torch.full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8
    binary = (masks > 0.5).float()[:, None]
    return (F.conv2d(binary, kernel, padding=1).clamp(min=0) > 0.1).float()[:, 0]


def test_a_square_has_a_ring() -> None:
    mask = torch.zeros(1, 7, 7)
    mask[:, 1:6, 1:6] = 1
    ring = mask.clone()
    ring[:, 2:5, 2:5] = 0
    assert torch.equal(boundary_targets(mask), ring)
    assert ring.sum() == 16


def test_a_mask_that_fills_its_region_has_a_contour_along_the_border() -> None:
    assert boundary_targets(torch.ones(1, 4, 4)).sum() == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_contours_are_where_the_laplacian_is_positive(dtype: torch.dtype) -> None:
    masks = torch.rand((20, 28, 28), generator=torch.Generator().manual_seed(0)).to(dtype)
    masks[:10] = F.avg_pool2d(masks[:10], 9, stride=1, padding=4) + 0.05
    found = boundary_targets(masks)
    assert found.dtype == dtype
    assert torch.equal(found.float(), laplacian(masks))
    assert 0 < found[:10].mean() < 0.5


def test_nothing_has_no_contour() -> None:
    assert not boundary_targets(torch.full((2, 5, 5), 0.5)).any()


def test_the_loss_is_cross_entropy_and_dice_of_the_contour() -> None:
    logits = torch.randn((3, 6, 6), generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 6, 6)
    masks[0, 1:5, 1:5] = 1
    masks[1, 2] = 0.8
    p, g = logits.sigmoid(), laplacian(masks)
    bce = -(g * p.log() + (1 - g) * (1 - p).log()).mean()
    dice = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, g, strict=True)]
    torch.testing.assert_close(boundary_loss(logits, masks), bce + torch.stack(dice).mean())


def test_nothing_waits_for_the_device() -> None:
    logits = torch.zeros((3, 6, 6), requires_grad=True)
    with host_waits() as found:
        boundary_loss(logits, torch.ones(3, 6, 6)).backward()
    assert not found
    assert logits.grad.any()
