"""Convolutions, then one that doubles the resolution: the mask head of Mask R-CNN (He et al. 2017).

Four convolutions of 256 channels are the paper's; the LVIS 2020 winner has seven (`channels` with seven entries).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads

from tis_ray.config import Norm
from tis_ray.models.mask_heads import MaskLogits
from tis_ray.models.mask_heads._own_class import OwnClassLogits
from tis_ray.models.norm import norm_layer

CHANNELS = 256  # after up-sampling, where no convolution precedes it


class Convs(nn.Module):
    """torchvision's head and predictor, except that only each region's own class is computed."""

    finest_size: int | None = None

    def __init__(
        self,
        in_channels: int,
        pool_size: int,
        num_classes: int,
        *,
        channels: Sequence[int],
        norm: Norm | None,
        upsample: bool,
    ) -> None:
        super().__init__()
        self.convs = MaskRCNNHeads(in_channels, channels, dilation=1, norm_layer=norm_layer(norm))
        self.channels = channels[-1] if channels else in_channels
        width = channels[-1] if channels else CHANNELS
        self.upsample = nn.ConvTranspose2d(self.channels, width, 2, stride=2) if upsample else None
        if self.upsample is not None:
            nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(self.upsample.bias)
        self.logits = OwnClassLogits(width if upsample else self.channels, num_classes)
        self.size = pool_size * 2 if upsample else pool_size

    def forward(self, regions: Tensor, labels: Tensor) -> MaskLogits:
        """Regions (R, C, S, S) of classes int64 (R,) from 1."""
        features = self.convs(regions)
        return MaskLogits((self.masks(features, labels),), None, features)

    def masks(self, features: Tensor, labels: Tensor) -> Tensor:
        """Logits (R, M, M) of what the last convolution has found."""
        fine = features if self.upsample is None else F.relu(self.upsample(features))
        return self.logits(fine, labels)


def build(
    in_channels: int,
    pool_size: int,
    num_classes: int,
    *,
    channels: tuple[PositiveInt, ...] = (256, 256, 256, 256),
    norm: Norm | None = None,
    upsample: bool = True,
) -> Convs:
    """3x3 convolutions of `channels` each, normalised by `norm`; `upsample` makes masks twice as fine as regions."""
    return Convs(in_channels, pool_size, num_classes, channels=channels, norm=norm, upsample=upsample)
