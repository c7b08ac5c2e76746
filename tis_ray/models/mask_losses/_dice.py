"""Dice loss (Milletari et al. 2016): how little a mask and its target overlap, however many pixels either has."""

from typing import Literal

from torch import Tensor

Denominator = Literal["squared", "linear"]
SMOOTH = 1.0  # as the LVIS 2020 winner has it; without it a region with neither mask nor target would be 0 / 0


def dice_loss(probs: Tensor, targets: Tensor, *, denominator: Denominator) -> Tensor:
    """Mean over R > 0 regions, for `probs` and `targets` (R, M, M) in 0..1.

    denominator: the sum of squares (Milletari et al.) or of the values themselves
    """
    probs, targets = probs.flatten(1), targets.flatten(1)
    shared = (probs * targets).sum(dim=1)
    if denominator == "squared":
        probs, targets = probs.square(), targets.square()
    return (1 - (2 * shared + SMOOTH) / (probs.sum(dim=1) + targets.sum(dim=1) + SMOOTH)).mean()
