"""Two branches (MegDetV2 2019): classes from fully connected layers, boxes from convolutions.

A fully connected layer mixes all places of a region, which helps to name the object and hurts where its edges are to
be found; the location branch keeps places apart to the end.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead

from tis_ray.config import Norm
from tis_ray.models.norm import norm_layer


class Split(nn.Module):
    """`classes` are two fully connected layers, `boxes` 3x3 convolutions whose maps are flattened."""

    def __init__(
        self, in_channels: int, pool_size: int, *, hidden: int, channels: Sequence[int], norm: Norm | None
    ) -> None:
        super().__init__()
        self.classes = TwoMLPHead(in_channels * pool_size**2, hidden)
        self.boxes = FastRCNNConvFCHead(
            (in_channels, pool_size, pool_size), list(channels), [], norm_layer=norm_layer(norm)
        )
        self.class_channels = hidden
        self.box_channels = channels[-1] * pool_size**2

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (R, C, S, S) to vectors (R, `hidden`) for classes and (R, `channels[-1]` * S * S) for boxes."""
        return self.classes(regions), self.boxes(regions)


def build(
    in_channels: int,
    pool_size: int,
    *,
    hidden: PositiveInt = 1024,
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 256, 256, 256),
    norm: Norm | None = "group",
) -> Split:
    """Two layers of `hidden` units for classes; 3x3 convolutions of `channels` each, followed by `norm`, for boxes."""
    return Split(in_channels, pool_size, hidden=hidden, channels=channels, norm=norm)
