"""Chance draws of training examples that leave the GPU running: places are filled, never counted.

Looking up where a condition holds asks how often it does, and the answer is awaited. Here every number of examples is
known beforehand; places for which there is no example are marked instead.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Drawn(NamedTuple):
    """`index` int64 (S,) into the examples; `positive` and `used` bool (S,).

    Positives come first, unused places last.
    """

    index: Tensor
    positive: Tensor
    used: Tensor


def draw(positive: Tensor, negative: Tensor, *, size: int, max_positives: int, priority: Tensor | None = None) -> Drawn:
    """Fill S = min(`size`, N) places with at most `max_positives` positives and, for the rest, negatives.

    positive, negative: bool (N,) which examples are what; none is both, some may be neither
    priority:           float (N,) at least 0, the positives with the largest are taken; by default chance decides
    """
    size = min(size, len(positive))
    max_positives = min(max_positives, size)
    chance = torch.rand(len(positive), device=positive.device)
    first, has_first = _top(positive, chance if priority is None else priority, max_positives)
    second, has_second = _top(negative, chance, size)
    used = torch.cat([has_first, has_second])
    places = torch.sort(~used, stable=True).indices[:size]  # the negatives for which there is no room fall off
    return Drawn(torch.cat([first, second])[places], used[places] & (places < max_positives), used[places])


def _top(allowed: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` allowed examples of the largest keys, and which of these places found one."""
    values, index = torch.where(allowed, keys.float(), -1).topk(count)
    return index, values >= 0
