"""For which classes a region may be a negative example, where nobody looked for every class in every image (LVIS).

A rule answers for a batch of R regions and K classes: bool (R, K) or (1, K), or None where every class may. Its own
class's term of a region counts whatever the rule says.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tis_ray.instances import Categories

Rule = Literal["all", "verified", "sampled"]


class Verified(nn.Module):
    """The classes that were looked for in the region's image; all where that is not known."""

    def forward(self, labels: Tensor, unverified: Tensor | None) -> Tensor | None:  # noqa: ARG002
        """`labels` int64 (R,) from 1 or not above 0; `unverified` bool (R, K) or None."""
        return None if unverified is None else ~unverified


class Sampled(nn.Module):
    """The federated loss (Zhou et al. 2021): the batch's own classes, and others by chance until there are `count`.

    A class is drawn in proportion to `weights` (K,), one of weight 0 never. Each process draws for its own batch.
    """

    weights: Tensor

    def __init__(self, weights: Sequence[float], *, count: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        self.count = min(count, len(weights))

    def forward(self, labels: Tensor, unverified: Tensor | None) -> Tensor:  # noqa: ARG002
        """`labels` int64 (R,) from 1 or not above 0; `unverified` is not asked."""
        present = torch.zeros(len(self.weights) + 1, dtype=torch.bool, device=labels.device)
        present = present.index_fill(0, labels.clamp(min=0), True)[1:]  # 0: background, and what does not count
        chance = self.weights / torch.empty_like(self.weights).exponential_()  # the largest: drawn without replacement
        keys, drawn = chance.masked_fill(present, torch.inf).topk(self.count)
        return (present | torch.zeros_like(present).scatter(0, drawn, keys > 0))[None]


def negatives_of(rule: Rule, categories: Categories, *, count: int) -> Verified | Sampled | None:
    """The rule of that name, None for `all`; `sampled` weighs a class by the root of its share of training images."""
    if rule == "all":
        return None
    if rule == "verified":
        return Verified()
    return Sampled([share**0.5 for share in categories.image_shares or [1.0] * len(categories)], count=count)
