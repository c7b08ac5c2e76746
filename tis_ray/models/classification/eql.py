"""A sigmoid for each class with the Equalization Loss (Tan et al. 2020), as the winner of LVIS 2020 trains.

Most of what a rare class is told comes from objects of other classes, and says no: its few own objects cannot make up
for that. Here they do not tell it; background does, so that it still learns where there is nothing. With a `tail_share`
of 0 these are plain sigmoids.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tis_ray.instances import Categories
from tis_ray.models.class_rows import ClassRows, with_class_rows
from tis_ray.models.classification._layer import class_layer
from tis_ray.models.classification._negatives import Rule, Sampled, Verified, negatives_of

FIRST_SCORE = 0.001  # of every class before training: else the loss of a thousand classes begins near 700


class EqualizedSigmoids(nn.Module):
    """Logit k is class k; background is where all scores are low, and has no logit.

    tail:      bool (K,) the classes that objects of other classes do not discourage
    negatives: for which classes regions may be negative examples at all; None for all
    """

    tail: Tensor

    def __init__(
        self, in_channels: int, tail: Tensor, *, cosine: float | None, negatives: Verified | Sampled | None = None
    ) -> None:
        super().__init__()
        layer = class_layer(in_channels, len(tail), cosine=cosine, cosine_bias=True)
        self.layer = with_class_rows(layer, ClassRows())
        nn.init.normal_(self.layer.weight, std=0.01)
        nn.init.constant_(self.layer.bias, math.log(FIRST_SCORE / (1 - FIRST_SCORE)))
        self.register_buffer("tail", tail, persistent=False)
        self.negatives = negatives

    def forward(self, features: Tensor) -> Tensor:
        """Features (R, C) to logits float32 (R, K)."""
        return self.layer(features)

    def loss(self, logits: Tensor, labels: Tensor, unverified: Tensor | None = None) -> Tensor:
        """Binary cross entropy summed over the classes, mean of the regions that count."""
        own = labels[:, None] == torch.arange(1, logits.shape[1] + 1, device=labels.device)  # (R, K)
        discouraged = own | ~self.tail | (labels[:, None] == 0)
        allowed = None if self.negatives is None else self.negatives(labels, unverified)
        if allowed is not None:
            discouraged = discouraged & (own | allowed)
        weights = (discouraged & (labels[:, None] >= 0)).float()
        total = F.binary_cross_entropy_with_logits(logits.float(), own.float(), weights, reduction="sum")
        return total / (labels >= 0).sum().clamp(min=1)

    def scores(self, logits: Tensor) -> Tensor:
        """Scores (R, K), each class's own: they need not sum to 1."""
        return logits.sigmoid()


def build(
    in_channels: int,
    categories: Categories,
    *,
    tail_share: Annotated[float, Field(ge=0, le=1)] = 0.0011,
    negatives: Rule = "all",
    sampled_classes: PositiveInt = 50,
    cosine: PositiveFloat | None = None,
) -> EqualizedSigmoids:
    """Classes on a smaller share of the training images than `tail_share` are rare; none where shares are unknown.

    `negatives`: a region is a negative example for `all` classes but its own, for those `verified` in its image, as
    LVIS's files say, or for its batch's own classes and others `sampled` until there are `sampled_classes`.
    `cosine` is the temperature of a cosine layer in the place of a linear one.
    """
    shares = torch.tensor(categories.image_shares or [1.0] * len(categories), dtype=torch.float64)
    rule = negatives_of(negatives, categories, count=sampled_classes)
    return EqualizedSigmoids(in_channels, shares < tail_share, cosine=cosine, negatives=rule)
