"""Ranks inside groups by sorting alone: no loop over groups, and no question of how many there are."""

import torch
from torch import Tensor


def ordered(groups: Tensor, keys: Tensor) -> Tensor:
    """Places int64 (N,) by ascending group; inside one the largest key first, of equal keys the first."""
    order = keys.argsort(descending=True, stable=True)
    return order[groups[order].argsort(stable=True)]


def rank_within(groups: Tensor, keys: Tensor) -> Tensor:
    """Rank int64 (N,) of each among its group, from 0 for the largest key; of equal keys the first comes first."""
    order = ordered(groups, keys)
    in_order = groups[order]
    begins = torch.searchsorted(in_order, in_order)  # where each one's group does
    ranks = torch.arange(len(order), device=order.device) - begins
    return torch.zeros_like(order).scatter(0, order, ranks)


def occurrences(values: Tensor, among: Tensor) -> Tensor:
    """How often each of `values` (N,) is found in `among` (M,): int64 (N,)."""
    in_order = among.sort().values
    return torch.searchsorted(in_order, values, right=True) - torch.searchsorted(in_order, values)
