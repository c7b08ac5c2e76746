"""Dice loss and a cross entropy that weighs an object's pixels the more, the less of its box they fill (LVIS 2020).

With p the mask, g its target and rho the target's mean, of the M x M pixels of a region:

    dice + bce_weight / M^2 * the sum of -(w g log p + (1 - g) log(1 - p))

The paper's equation of w is lost; what it says of it, that it falls as rho grows, holds for each `foreground_weight`:

    inverse   1 / rho, `max_weight` at most
    sqrt      1 / sqrt(rho)
    log       1 - ln rho
    linear    2 - rho

Dice loss alone is worse than plain cross entropy, as the paper says.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tis_ray.models.mask_losses import MaskLoss
from tis_ray.models.mask_losses._dice import Denominator, dice_loss

ForegroundWeight = Literal["inverse", "sqrt", "log", "linear"]


def build(
    *,
    foreground_weight: ForegroundWeight = "inverse",
    max_weight: Annotated[float, Field(ge=1)] = 5.0,
    bce_weight: PositiveFloat = 1.0,
    dice_denominator: Denominator = "squared",
) -> MaskLoss:
    """`max_weight` bounds `inverse` alone; `dice_denominator` sums squares, or the values themselves (`linear`)."""
    weigh = _weight(foreground_weight, max_weight)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        weights = weigh(targets.mean(dim=(1, 2)).clamp(min=1 / targets[0].numel()))  # (R,)
        bce = binary_cross_entropy_with_logits(logits, targets, pos_weight=weights[:, None, None])
        return dice_loss(logits.sigmoid(), targets, denominator=dice_denominator) + bce_weight * bce

    return loss


def _weight(name: ForegroundWeight, most: float) -> Callable[[Tensor], Tensor]:
    """A foreground pixel's weight by the share of its region that is foreground, both (R,)."""
    return {
        "inverse": lambda share: (1 / share).clamp(max=most),
        "sqrt": lambda share: share.rsqrt(),
        "log": lambda share: 1 - share.log(),
        "linear": lambda share: 2 - share,
    }[name]
