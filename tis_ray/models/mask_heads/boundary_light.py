"""The head `convs`, whose convolutions also learn where the object's contour runs (LVIS 2020, after Cheng et al. 2020).

One 1 x 1 convolution tells the contour from what the middle one of the convolutions has found, in training alone: the
masks cost what they cost without it, and weights have the names of the head `convs`.
"""

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from tis_ray.config import Norm
from tis_ray.models.mask_heads import MaskLogits
from tis_ray.models.mask_heads._own_class import OwnClassLogits
from tis_ray.models.mask_heads.convs import Convs


class BoundaryLight(Convs):
    """Convolutions whose middle features are supervised by contours."""

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
        self.middle = (len(channels) + 1) // 2
        self.boundary = OwnClassLogits((in_channels, *channels)[self.middle], num_classes)

    def forward(self, regions: Tensor, labels: Tensor) -> MaskLogits:
        """Regions (R, C, S, S) of classes int64 (R,) from 1."""
        features, boundary = regions, None
        for number, conv in enumerate((None, *self.convs)):
            features = features if conv is None else conv(features)
            if number == self.middle and self.training:
                boundary = self._boundary(features, labels)
        return MaskLogits((self.masks(features, labels),), boundary, features)

    def _boundary(self, features: Tensor, labels: Tensor) -> Tensor:
        """Logits of contours (R, M, M); they are enlarged rather than the features, which is the same and far less."""
        logits = self.boundary(features, labels)
        return F.interpolate(logits[:, None], size=self.size, mode="bilinear")[:, 0]


def build(
    in_channels: int,
    pool_size: int,
    num_classes: int,
    *,
    channels: tuple[PositiveInt, ...] = (256, 256, 256, 256),
    norm: Norm | None = None,
    upsample: bool = True,
) -> BoundaryLight:
    """As `convs`: 3x3 convolutions of `channels` each; `upsample` makes masks twice as fine as regions."""
    return BoundaryLight(in_channels, pool_size, num_classes, channels=channels, norm=norm, upsample=upsample)
