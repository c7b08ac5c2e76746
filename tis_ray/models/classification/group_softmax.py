"""Balanced GroupSoftmax (Li et al. 2020), with which the winner of LVIS 2020 trains its classifier once more.

Classes compete with those that have about as many training instances, so that frequent ones do not push rare ones down.
Each group has an entry for everything else, and a group of its own tells objects from background.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tis_ray.instances import Categories
from tis_ray.models.class_rows import BACKGROUND, ClassRows, with_class_rows
from tis_ray.models.classification._layer import class_layer

FOREGROUND = 1  # row of the layer; background's is before it, the groups' entries for everything else after it


class GroupSoftmax(nn.Module):
    """Logits: background, foreground, "others" of each of G groups, then the K classes.

    groups: int64 (K,) each class's group, in 0..G-1
    names:  of the groups; detectors whose groups have the same names can take over each other's rows
    """

    targets: Tensor
    places: Tensor

    def __init__(
        self,
        in_channels: int,
        groups: NDArray[np.int64],
        *,
        names: Sequence[str],
        others_ratio: float,
        cosine: float | None,
    ) -> None:
        super().__init__()
        shared = (BACKGROUND, "foreground", *(f"others of {name}" for name in names))
        layer = class_layer(in_channels, len(shared) + len(groups), cosine=cosine)
        self.layer = with_class_rows(layer, ClassRows(shared))
        nn.init.normal_(self.layer.weight, std=0.01)
        if self.layer.bias is not None:
            nn.init.zeros_(self.layer.bias)
        self.others_ratio = others_ratio
        targets = np.zeros((len(names), len(groups) + 1), np.int64)  # 0: background and the other groups' classes
        for group in range(len(names)):
            members = np.flatnonzero(groups == group)
            targets[group, members + 1] = np.arange(1, len(members) + 1)
            self._keep(f"columns_{group}", np.concatenate([[2 + group], len(shared) + members]))
        self._keep("targets", targets)
        self._keep("places", np.argsort(np.argsort(groups, kind="stable")))

    def _keep(self, name: str, indices: NDArray[np.int64]) -> None:
        self.register_buffer(name, torch.from_numpy(indices), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (R, C) to logits float32 (R, 2 + G + K)."""
        return self.layer(features)

    def loss(self, logits: Tensor, labels: Tensor, unverified: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """The sum of the groups' cross entropies, each the mean of the regions that it learns from.

        All regions teach background from objects. A group learns from its F own regions and from `others_ratio` * F
        others, drawn anew each time; from none where F is 0. `unverified` is not asked: within a group scores sum to 1.
        """
        counts, known = labels >= 0, labels.clamp(min=0)
        loss = _mean_cross_entropy(logits[:, : FOREGROUND + 1], (known > 0).long(), counts)
        for targets, group_logits in zip(self.targets, self._groups(logits), strict=True):
            target = targets[known]
            own = counts & (target > 0)
            others = _some_of(counts & ~own, at_most=self.others_ratio * own.sum())
            loss = loss + _mean_cross_entropy(group_logits, target, own | others)
        return loss

    def scores(self, logits: Tensor) -> Tensor:
        """The merged scores (R, K): the chance of an object times that of the class in its group."""
        chances = torch.cat([group_logits.softmax(dim=1)[:, 1:] for group_logits in self._groups(logits)], dim=1)
        return logits[:, : FOREGROUND + 1].softmax(dim=1)[:, FOREGROUND:] * chances[:, self.places]

    def _groups(self, logits: Tensor) -> list[Tensor]:
        """Logits (R, 1 + K_g) of each group, others first."""
        return [logits[:, self.get_buffer(f"columns_{group}")] for group in range(len(self.targets))]


def _mean_cross_entropy(logits: Tensor, targets: Tensor, chosen: Tensor) -> Tensor:
    total = (F.cross_entropy(logits.float(), targets, reduction="none") * chosen).sum()
    return total / chosen.sum().clamp(min=1)


def _some_of(allowed: Tensor, *, at_most: Tensor) -> Tensor:
    """Bool (R,): `at_most`, rounded down, of the regions `allowed`, by chance; all where there are fewer."""
    chance = torch.where(allowed, torch.rand(len(allowed), device=allowed.device), 2)  # 2: after all others
    ranks = chance.argsort().argsort()
    return allowed & (ranks + 1 <= at_most)


def _check_rising(bounds: tuple[int, ...]) -> tuple[int, ...]:
    if list(bounds) != sorted(set(bounds)):
        raise ValueError(f"expected rising numbers of instances; got {list(bounds)}")
    return bounds


def build(
    in_channels: int,
    categories: Categories,
    *,
    bounds: Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(_check_rising)] = (10, 100, 1000),
    others_ratio: PositiveFloat = 8.0,
    cosine: PositiveFloat | None = None,
) -> GroupSoftmax:
    """Classes of fewer training instances than the first of `bounds` are the first group, and so on.

    Where their numbers are unknown all classes are in the last group. `cosine` is the temperature of a cosine layer in
    the place of a linear one.
    """
    counts = categories.counts or (bounds[-1],) * len(categories)
    groups = np.searchsorted(bounds, counts, side="right")
    names = [f"{low} to {high - 1}" for low, high in pairwise((0, *bounds))] + [f"{bounds[-1]} and more"]
    return GroupSoftmax(in_channels, groups, names=names, others_ratio=others_ratio, cosine=cosine)
