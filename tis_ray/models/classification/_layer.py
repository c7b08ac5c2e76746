"""The layer behind every classifier: linear, or the cosine between features and a vector for each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineLayer(nn.Module):
    """Logits `temperature` * cos(w_c, x): the length of neither vector counts.

    One reading of the classification scores that MegDetV2 normalises; the paper does not say how.
    """

    def __init__(self, in_channels: int, num_logits: int, *, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_logits, in_channels))
        nn.init.normal_(self.weight, std=0.01)
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """(R, C) to (R, L)."""
        # float32: under autocast the quotient of two sums of a thousand squares would lose its last digits.
        with torch.autocast(features.device.type, enabled=False):
            return self.temperature * F.linear(F.normalize(features.float()), F.normalize(self.weight.float()))


def class_layer(in_channels: int, num_logits: int, *, cosine: float | None) -> nn.Module:
    """A linear layer, or a cosine layer of that temperature."""
    if cosine is None:
        return nn.Linear(in_channels, num_logits)
    return CosineLayer(in_channels, num_logits, temperature=cosine)
