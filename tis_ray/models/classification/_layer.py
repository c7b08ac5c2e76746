"""The layer behind every classifier: linear, or the cosine between features and a vector for each class.

Both compute in float32 under autocast too: with 8 bits, logits about -7, those of a thousand rare classes, would lie on
a grid of 0.03, and scores of different regions would tie.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearLayer(nn.Linear):
    """A linear layer whose answers are float32."""

    def forward(self, features: Tensor) -> Tensor:
        """(R, C) to float32 (R, L)."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.weight.float(), self.bias.float())


class CosineLayer(nn.Module):
    """Logits `temperature` * cos(w_c, x), with `bias` plus b_c: the length of neither vector counts.

    One reading of the classification scores that MegDetV2 normalises; the paper does not say how.
    """

    def __init__(self, in_channels: int, num_logits: int, *, temperature: float, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_logits, in_channels))
        nn.init.normal_(self.weight, std=0.01)
        self.bias = nn.Parameter(torch.zeros(num_logits)) if bias else None
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """(R, C) to float32 (R, L)."""
        with torch.autocast(features.device.type, enabled=False):
            weight, bias = F.normalize(self.weight.float()), None if self.bias is None else self.bias.float()
            return F.linear(self.temperature * F.normalize(features.float()), weight, bias)


def class_layer(
    in_channels: int, num_logits: int, *, cosine: float | None, cosine_bias: bool = False
) -> LinearLayer | CosineLayer:
    """A linear layer, or a cosine layer of that temperature; a linear one always has a bias."""
    if cosine is None:
        return LinearLayer(in_channels, num_logits)
    return CosineLayer(in_channels, num_logits, temperature=cosine, bias=cosine_bias)
