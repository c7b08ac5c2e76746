"""Two fully connected layers (Lin et al. 2017), the head of the baseline Mask R-CNN."""

from pydantic import PositiveInt
from torch import Tensor
from torchvision.models.detection.faster_rcnn import TwoMLPHead


class Mlp(TwoMLPHead):
    """torchvision's two-layer head, which knows its own width."""

    def __init__(self, in_channels: int, pool_size: int, *, hidden: int) -> None:
        super().__init__(in_channels * pool_size**2, hidden)
        self.class_channels = self.box_channels = hidden

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (R, C, S, S) to the same vectors (R, `hidden`) twice."""
        vectors = super().forward(regions)
        return vectors, vectors


def build(in_channels: int, pool_size: int, *, hidden: PositiveInt = 1024) -> Mlp:
    """Two layers of `hidden` units with ReLU."""
    return Mlp(in_channels, pool_size, hidden=hidden)
