"""A branch for the object's contour beside the one for its mask, each of which tells the other what it has found (BMask
R-CNN, Cheng et al. 2020).

The contour's branch begins with the region as the pyramid's finest level shows it, at twice the mask branch's side.
What it says of the contour is learnt from, and not asked for when testing.
"""

from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from tis_ray.config import Norm
from tis_ray.models.mask_heads import MaskLogits
from tis_ray.models.mask_heads.convs import Convs
from tis_ray.models.norm import norm_layer


class Boundary(Convs):
    """The head `convs`, under its weights' names, whose features go through the contour's branch and come back."""

    def __init__(
        self,
        in_channels: int,
        pool_size: int,
        num_classes: int,
        *,
        channels: tuple[int, ...],
        norm: Norm | None,
        upsample: bool,
    ) -> None:
        super().__init__(in_channels, pool_size, num_classes, channels=channels, norm=norm, upsample=upsample)
        self.finest_size = 2 * pool_size
        width = self.channels
        self.reduce = _conv(in_channels, width, 3, norm, stride=2)
        self.to_contour = _conv(width, width, 1, norm)
        self.contour = Convs(width, pool_size, num_classes, channels=(width, width), norm=norm, upsample=upsample)
        self.to_mask = _conv(width, width, 1, norm)
        self.fuse = _conv(width, width, 3, norm)

    def forward(self, regions: Tensor, labels: Tensor, *, finest: Tensor) -> MaskLogits:
        """Regions (R, C, S, S) of classes int64 (R,) from 1; `finest` (R, C, 2 S, 2 S) of the same places."""
        features = self.convs(regions)
        contour = self.contour.convs(self.reduce(finest) + self.to_contour(features))
        features = self.fuse(features + self.to_mask(contour))
        boundary = self.contour.masks(contour, labels) if self.training else None
        return MaskLogits((self.masks(features, labels),), boundary, features)


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: Norm | None, *, stride: int = 1) -> nn.Module:
    """A convolution with normalisation and ReLU, initialised as torchvision does a mask head's."""
    block = Conv2dNormActivation(
        in_channels, out_channels, kernel_size, stride=stride, norm_layer=norm_layer(norm), inplace=False
    )
    nn.init.kaiming_normal_(block[0].weight, mode="fan_out", nonlinearity="relu")
    if block[0].bias is not None:
        nn.init.zeros_(block[0].bias)
    return block


def build(
    in_channels: int,
    pool_size: int,
    num_classes: int,
    *,
    channels: tuple[PositiveInt, ...] = (256, 256, 256, 256),
    norm: Norm | None = None,
    upsample: bool = True,
) -> Boundary:
    """The mask's 3x3 convolutions have `channels` each, the contour's two as many as the last of them."""
    return Boundary(in_channels, pool_size, num_classes, channels=channels, norm=norm, upsample=upsample)
