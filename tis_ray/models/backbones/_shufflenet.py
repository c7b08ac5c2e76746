"""Shared by the ShuffleNet V2 backbones: torchvision's network, and units with squeeze-excitation and an identity."""

import torch
from torch import Tensor
from torchvision.models.shufflenetv2 import InvertedResidual, ShuffleNetV2, channel_shuffle
from torchvision.ops import SqueezeExcitation

from tis_ray.models.backbones._features import Features, finished
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._weights import Weights

_SQUEEZE, _FEWEST = 16, 8  # channels of a branch for each one that tells their weights (Hu et al. 2018), and of those


def shufflenet_features(network: ShuffleNetV2, name: str, *, norm: Norm, weights: Weights) -> Features:
    """Maps after the max-pool (stride 4) and stages 2 to 4 of a network with random weights; it is changed in place."""
    stages = (network.stage2, network.stage3, network.stage4)
    channels = tuple(2 * stage[0].branch1[2].out_channels for stage in stages)
    network = finished(network, name, norm=norm, weights=weights)
    return Features(network, ("maxpool", "stage2", "stage3", "stage4"), (network.conv1[0].out_channels, *channels))


class Unit(InvertedResidual):
    """torchvision's unit as its paper's large networks have it (Ma et al. 2018).

    se:       squeeze-excitation of the branch that computes, before its last ReLU
    residual: before that ReLU, the branch's input is added to its output; not in a unit of stride 2, whose shapes
              differ. The other half of the channels passes through as it is, so then the whole unit has an identity.
    Without both it computes what torchvision's does, and its weights have the same names.
    """

    def __init__(self, channels: int, out_channels: int, stride: int, *, se: bool, residual: bool) -> None:
        super().__init__(channels, out_channels, stride)
        half = out_channels // 2
        if se:
            self.branch2.insert(len(self.branch2) - 1, SqueezeExcitation(half, max(_FEWEST, half // _SQUEEZE)))
        self.last = self.branch2.pop(-1) if residual and stride == 1 else None

    def forward(self, values: Tensor) -> Tensor:
        """Maps (B, channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        if self.last is None:
            return super().forward(values)
        kept, changed = values.chunk(2, dim=1)
        changed = self.last(changed + self.branch2(changed))
        return channel_shuffle(torch.cat((kept, changed), dim=1), 2)
