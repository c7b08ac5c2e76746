"""What every mask loss has in common."""

import pytest
import torch

from tests.host_waits import host_waits
from tis_ray.menu import choices, pick
from tis_ray.models.mask_losses import MaskLoss

MENU = "tis_ray.models.mask_losses"


@pytest.fixture(params=choices(MENU))
def loss(request: pytest.FixtureRequest) -> MaskLoss:
    return pick(MENU, "build", request.param, key="test")()


def masks(count: int = 4, size: int = 6) -> torch.Tensor:
    """Rectangles, empty and full ones among them, with soft borders."""
    targets = torch.zeros((count, size, size))
    targets[1, 1:4, 2:5] = 1
    targets[2, 1, 1:5] = 0.3
    targets[3] = 1
    return targets


def test_it_is_one_finite_positive_number(loss: MaskLoss) -> None:
    for logits in (torch.zeros_like(masks()), torch.full_like(masks(), 200.0), torch.full_like(masks(), -200.0)):
        logits.requires_grad_()
        value = loss(logits, masks())
        assert (value.shape, value.dtype) == ((), torch.float32)
        assert torch.isfinite(value)
        assert value > 0
        value.backward()
        assert torch.isfinite(logits.grad).all()


def test_it_is_the_mean_over_regions(loss: MaskLoss) -> None:
    logits = torch.randn(masks().shape, generator=torch.Generator().manual_seed(0))
    each = torch.stack([loss(logits[i : i + 1], masks()[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(loss(logits, masks()), each.mean())


def test_learning_makes_the_target(loss: MaskLoss) -> None:
    targets = masks()
    logits = torch.zeros_like(targets, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(logits, targets).backward()
        optimizer.step()
    sharp = (targets == 0) | (targets == 1)
    assert ((logits > 0) == (targets > 0.5))[sharp].all()


def test_the_targets_stay_and_nothing_waits_for_the_device(loss: MaskLoss) -> None:
    targets, logits = masks(), torch.zeros_like(masks(), requires_grad=True)
    with host_waits() as found:
        loss(logits, targets).backward()
    assert not found
    assert torch.equal(targets, masks())
