"""Softmax over the classes and background, with cross entropy: the baseline of Fast R-CNN (Girshick 2015)."""

import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from tis_ray.instances import Categories
from tis_ray.models.class_rows import BACKGROUND, ClassRows, with_class_rows
from tis_ray.models.classification._layer import class_layer


class Softmax(nn.Module):
    """Logit 0 is background, logit k + 1 class k."""

    def __init__(self, in_channels: int, num_classes: int, *, cosine: float | None) -> None:
        super().__init__()
        rows = ClassRows((BACKGROUND,), relative=cosine is None)
        self.layer = with_class_rows(class_layer(in_channels, num_classes + 1, cosine=cosine), rows)

    def forward(self, features: Tensor) -> Tensor:
        """Features (R, C) to logits float32 (R, K + 1)."""
        return self.layer(features)

    def loss(self, logits: Tensor, labels: Tensor, unverified: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Mean cross entropy of the regions that count; `unverified` is not asked, the scores of a region sum to 1."""
        total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        return total / (labels >= 0).sum().clamp(min=1)

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities (R, K)."""
        return logits.softmax(dim=1)[:, 1:]


def build(in_channels: int, categories: Categories, *, cosine: PositiveFloat | None = None) -> Softmax:
    """`cosine` is the temperature of a cosine layer in the place of a linear one."""
    return Softmax(in_channels, len(categories), cosine=cosine)
