"""Logits of each region's own class alone: the last layer of mask heads."""

import torch
from torch import Tensor, nn

from tis_ray.models.class_rows import BACKGROUND, ClassRows, with_class_rows

FIRST_LOGITS_STD = 0.001  # as Detectron has it: torchvision's initialisation makes first logits huge for few classes


class OwnClassLogits(nn.Conv2d):
    """A 1 x 1 convolution to background's and each class's channel, of which only one for each region is computed.

    The weights are those of the plain convolution. Of LVIS's 1203 classes all channels of 100 masks would be 378 MB
    and a thousand times the work.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes + 1, 1)
        nn.init.normal_(self.weight, std=FIRST_LOGITS_STD)
        nn.init.zeros_(self.bias)
        with_class_rows(self, ClassRows((BACKGROUND,)))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features (R, C, M, M) and labels int64 (R,) from 1 to logits (R, M, M)."""
        rows = self.weight.flatten(1)[labels]  # (R, C)
        logits = torch.bmm(rows[:, None], features.flatten(2))[:, 0]
        return (logits + self.bias[labels][:, None]).unflatten(1, features.shape[-2:])
