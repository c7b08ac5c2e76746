"""Two mask heads in a row, the second of which learns what the first one's mask lacks (MegDetV2's efficient cascade).

The second sees the region, the first one's features and its mask, and its logits are added to the first one's; boxes
stay as they are. Both masks are learnt, the first one's logits by their own loss alone, and the sum is the answer. At
first it is what the first head says.
"""

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from tis_ray.config import Norm
from tis_ray.models.mask_heads import MaskLogits
from tis_ray.models.mask_heads.convs import Convs


class Residual(Convs):
    """The head `convs`, under its weights' names, and a second one for what is left to say."""

    def __init__(
        self,
        in_channels: int,
        pool_size: int,
        num_classes: int,
        *,
        channels: tuple[int, ...],
        residual_channels: tuple[int, ...],
        norm: Norm | None,
        upsample: bool,
    ) -> None:
        super().__init__(in_channels, pool_size, num_classes, channels=channels, norm=norm, upsample=upsample)
        self.from_features = nn.Conv2d(self.channels, in_channels, 1)
        self.from_mask = nn.Conv2d(1, in_channels, 1)
        self.residual = Convs(
            in_channels, pool_size, num_classes, channels=residual_channels, norm=norm, upsample=upsample
        )
        nn.init.zeros_(self.residual.logits.weight)
        self.channels = self.residual.channels

    def forward(self, regions: Tensor, labels: Tensor) -> MaskLogits:
        """Regions (R, C, S, S) of classes int64 (R,) from 1."""
        first = super().forward(regions, labels)
        rough = first.masks[0].detach()
        mask = F.adaptive_avg_pool2d(rough.sigmoid()[:, None], regions.shape[-1])
        seen = regions + self.from_features(first.features) + self.from_mask(mask)
        second = self.residual(seen, labels)
        return MaskLogits((first.masks[0], rough + second.masks[0]), None, second.features)


def build(
    in_channels: int,
    pool_size: int,
    num_classes: int,
    *,
    channels: tuple[PositiveInt, ...] = (256, 256, 256, 256),
    residual_channels: tuple[PositiveInt, ...] | None = None,
    norm: Norm | None = None,
    upsample: bool = True,
) -> Residual:
    """3x3 convolutions of `channels` each in the first head and of `residual_channels`, or the same, in the second."""
    return Residual(
        in_channels,
        pool_size,
        num_classes,
        channels=channels,
        residual_channels=channels if residual_channels is None else residual_channels,
        norm=norm,
        upsample=upsample,
    )
