"""Convolutions before a fully connected layer (Wu and He 2018), as in torchvision's second-generation detectors."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from tis_ray.config import Norm
from tis_ray.models.norm import norm_layer


class Convs(FastRCNNConvFCHead):
    """torchvision's convolutional head, which knows its own width."""

    def __init__(
        self, in_channels: int, pool_size: int, *, channels: Sequence[int], hidden: int, norm: Norm | None
    ) -> None:
        super().__init__((in_channels, pool_size, pool_size), list(channels), [hidden], norm_layer=norm_layer(norm))
        self.class_channels = self.box_channels = hidden

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (R, C, S, S) to the same vectors (R, `hidden`) twice."""
        vectors = super().forward(regions)
        return vectors, vectors


def build(
    in_channels: int,
    pool_size: int,
    *,
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 256, 256, 256),
    hidden: PositiveInt = 1024,
    norm: Norm | None = None,
) -> Convs:
    """3x3 convolutions of `channels` each, normalised by `norm`, then one layer of `hidden` units."""
    return Convs(in_channels, pool_size, channels=channels, hidden=hidden, norm=norm)
