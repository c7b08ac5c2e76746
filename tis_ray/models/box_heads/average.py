"""The mean over each region (He et al. 2016), after a stage of the backbone that box and mask branch share."""

from torch import Tensor, nn


class Average(nn.Module):
    """Global average pooling; nothing to learn."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.class_channels = self.box_channels = in_channels

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (R, C, S, S) to the same vectors (R, C) twice."""
        vectors = regions.mean(dim=(2, 3))
        return vectors, vectors


def build(in_channels: int, pool_size: int) -> Average:  # noqa: ARG001
    """One mean for each channel; made for the neck `c4`, where the backbone's last stage comes before."""
    return Average(in_channels)
