"""Feature Pyramid Network (Lin et al. 2017) with a fifth, subsampled level for the RPN."""

from collections import OrderedDict
from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from tis_ray.config import Norm
from tis_ray.models.norm import norm_layer


class Fpn(nn.Module):
    """Levels "0".."3" of strides 4 to 32 and "pool" of stride 64, all with `channels` channels."""

    strides = (4, 8, 16, 32, 64)
    roi_levels = 4
    leaves_last_stage = False

    def __init__(self, in_channels: Sequence[int], *, channels: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(
            list(in_channels), channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm_layer(norm)
        )
        self.out_channels = channels

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Backbone maps, finest first, to pyramid levels."""
        levels: dict[str, Tensor] = self.pyramid(OrderedDict((str(i), level) for i, level in enumerate(maps)))
        return levels


def build(in_channels: Sequence[int], *, channels: PositiveInt = 256, norm: Norm | None = None) -> Fpn:
    """A pyramid of `channels` channels over maps of `in_channels`; `norm` follows each of its convolutions."""
    return Fpn(in_channels, channels=channels, norm=norm)
