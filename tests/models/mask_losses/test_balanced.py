"""The balanced mask loss: dice, and cross entropy with an object's pixels weighed by how few they are."""

import math

import pytest
import torch
from torch import Tensor

from tis_ray.errors import ConfigError
from tis_ray.menu import check_options
from tis_ray.models.mask_losses._dice import dice_loss
from tis_ray.models.mask_losses.balanced import build

PROBS = torch.tensor([[[0.8, 0.2], [0.4, 0.1]]])
LOGITS = PROBS.logit()
TARGET = torch.tensor([[[1.0, 0], [0, 0]]])
DICE = {"squared": 0.087719, "linear": 0.257143}


@pytest.mark.parametrize(("denominator", "expected"), DICE.items())
def test_dice_of_the_known_masks(denominator: str, expected: float) -> None:
    assert dice_loss(PROBS, TARGET, denominator=denominator).item() == pytest.approx(expected, abs=1e-6)


def test_dice_of_an_empty_target_asks_for_an_empty_mask() -> None:
    found = dice_loss(torch.full((1, 2, 2), 0.1), torch.zeros(1, 2, 2), denominator="squared")
    assert found.item() == pytest.approx(0.038462, abs=1e-6)
    assert dice_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), denominator="squared") == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, 0.520695, id="the default, a weight of 4"),
        pytest.param({"foreground_weight": "sqrt"}, DICE["squared"] + 0.321404, id="a weight of 2"),
        pytest.param({"max_weight": 1}, DICE["squared"] + 0.265618, id="plain cross entropy"),
        pytest.param({"dice_denominator": "linear"}, DICE["linear"] + 0.432976, id="linear"),
        pytest.param({"bce_weight": 0.5}, DICE["squared"] + 0.432976 / 2, id="half of the cross entropy"),
    ],
)
def test_known_answers(options: dict[str, object], expected: float) -> None:
    assert build(**options)(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-6)


def by_pixel(logits: Tensor, target: Tensor, weight: float) -> float:
    """The formula, pixel by pixel."""
    total, shared, squares = 0.0, 0.0, 0.0
    for logit, g in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        total -= weight * g * math.log(p) + (1 - g) * math.log(1 - p)
        shared += p * g
        squares += p * p + g * g
    return total / logits.numel() + 1 - (2 * shared + 1) / (squares + 1)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("inverse", lambda rho: min(1 / rho, 5)),
        ("sqrt", lambda rho: rho**-0.5),
        ("log", lambda rho: 1 - math.log(rho)),
        ("linear", lambda rho: 2 - rho),
    ],
)
@pytest.mark.parametrize("filled", [1, 3, 36, 300, 784])
def test_weights_follow_the_share_that_is_foreground(name: str, weight: object, filled: int) -> None:
    logits = torch.randn((1, 28, 28), generator=torch.Generator().manual_seed(filled))
    target = (torch.arange(784) < filled).float().view(1, 28, 28)
    expected = by_pixel(logits, target, weight(filled / 784))
    assert build(foreground_weight=name)(logits, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["inverse", "sqrt", "log", "linear"])
def test_without_foreground_no_weight_counts(name: str) -> None:
    logits, target = torch.randn((1, 6, 6), generator=torch.Generator().manual_seed(0)), torch.zeros(1, 6, 6)
    found = build(foreground_weight=name)(logits, target)
    assert found.item() == pytest.approx(by_pixel(logits, target, 1.0), rel=1e-5)


def test_a_thin_object_is_learnt_sooner_than_by_plain_cross_entropy() -> None:
    """One layer for all regions of an object that fills a tenth of its box and that only a noisy cue tells."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(64, 10, 10)
    targets[:, torch.arange(10), torch.arange(10)] = 1
    cue = targets + torch.randn(targets.shape, generator=generator)

    def recall(loss: object) -> float:
        scale, shift = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
        optimizer = torch.optim.Adam([scale, shift], lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            loss(cue * scale + shift, targets).backward()
            optimizer.step()
        return float(((cue * scale + shift) > 0)[targets > 0].float().mean())

    assert recall(build()) > 2 * recall(torch.nn.functional.binary_cross_entropy_with_logits)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"max_weight": 0.5}, "max_weight"), ({"bce_weight": 0}, "bce_weight"), ({"foreground_weight": "cube"}, "weight")],
)
def test_senseless_options_are_refused(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        check_options(build, options, key="detector.mask.loss.balanced")
