"""Feature Pyramid Network (Lin et al. 2017) with a fifth, subsampled level for the RPN.

With `deformable`, MegDetV2's pyramid: the 3x3 convolution after the merge of each level is deformable.
"""

from collections import OrderedDict
from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from tis_ray.config import Norm
from tis_ray.models.deformable import DeformableConv2d
from tis_ray.models.norm import norm_layer


class Fpn(nn.Module):
    """Levels "0".."3" of strides 4 to 32 and "pool" of stride 64, all with `channels` channels."""

    strides = (4, 8, 16, 32, 64)
    roi_levels = 4
    leaves_last_stage = False

    def __init__(
        self, in_channels: Sequence[int], *, channels: int, norm: Norm | None = None, deformable: bool = False
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(
            list(in_channels), channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm_layer(norm)
        )
        if deformable:
            for block in self.pyramid.layer_blocks:
                block[0] = DeformableConv2d.of(block[0])
        self.out_channels = channels

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Backbone maps, finest first, to pyramid levels."""
        levels: dict[str, Tensor] = self.pyramid(OrderedDict((str(i), level) for i, level in enumerate(maps)))
        return levels


def build(
    in_channels: Sequence[int], *, channels: PositiveInt = 256, norm: Norm | None = None, deformable: bool = False
) -> Fpn:
    """A pyramid of `channels` channels over maps of `in_channels`; `norm` follows each of its convolutions.

    `deformable` makes the 3x3 ones of the four levels deformable. At stride 4 that is the dearest place for it: the
    operator gathers 36 `channels` bytes for each place of the map and each image of the batch, 3.3 GiB for a frame of
    1800 x 3384.
    """
    return Fpn(in_channels, channels=channels, norm=norm, deformable=deformable)
