"""Mask proposal assignment (LVIS 2020): what fills little of its box is segmented from a finer level of the pyramid.

The rule of `roi_levels` is asked about a smaller box: its sides times rho ** beta, rho being the share of the box that
the mask fills. For Lin et al.'s rule that is floor(log2(sqrt(box area) / 224) + beta * log2(rho)), the paper's lost
formula as its words give it: boxes and masks go in, finer levels come out, and boxes are refined from where they were.

In training rho is that of the object. In testing it is not known yet: masks are predicted from the usual level, and
once more from where they then belong. A mask that comes out empty is taken to fill as much as its class mostly does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tis_ray.models.roi_levels import LevelRule

SHOWN = 0.5  # a cell belongs to a mask above it
LEAST = 1e-4


class AreaRatio(nn.Module):
    """Levels by boxes and by how much of them masks fill.

    rule:   the pyramid's, for boxes that are filled
    priors: of each class from 1, the share of their boxes that its objects fill on average, in 0..1
    beta:   0.5 goes by the square root of the mask's area, 1 by the mean thickness of something long
    """

    def __init__(self, rule: LevelRule, priors: Sequence[float], *, beta: float) -> None:
        super().__init__()
        self.rule = rule
        self.beta = beta
        self.register_buffer("priors", torch.tensor([1.0, *priors]), persistent=False)  # background has a row too

    def levels(self, boxes: list[Tensor], ratios: Tensor) -> Tensor:
        """Levels int64 (R,) of boxes, (R_i, 4) xyxy of each image, of which masks fill `ratios` (R,) in 0..1."""
        sides = torch.cat([one[:, 2:] - one[:, :2] for one in boxes])
        smaller = sides * ratios.clamp(LEAST, 1).pow(self.beta)[:, None]
        return self.rule([torch.cat([torch.zeros_like(smaller), smaller], dim=1)])

    def of_masks(self, probs: Tensor, labels: Tensor) -> Tensor:
        """The share (R,) of its box that each mask (R, M, M) fills, its class's where it is empty."""
        shown = (probs > SHOWN).float().mean(dim=(1, 2))
        return torch.where(shown > 0, shown, self.priors[labels])
