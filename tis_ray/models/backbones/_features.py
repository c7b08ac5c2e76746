"""Shared by the backbones: feature taps of a classification network, its normalisation and weights from a file."""

from pathlib import Path

from torch import Tensor, nn

from tis_ray.models.backbones._norm import Norm, replace_norm
from tis_ray.models.backbones._weights import load_state, read_state


class Features(nn.Module):
    """Four maps of a network that calls its children one after the other: the outputs of `taps`, finest first."""

    def __init__(self, network: nn.Module, taps: tuple[str, ...], channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        names = [name for name, _ in network.named_children()]
        self.body = nn.ModuleDict({name: getattr(network, name) for name in names[: names.index(taps[-1]) + 1]})
        self.taps = taps
        self.channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images float (B, 3, H, W) to maps (B, C_i, H/s, W/s)."""
        values, maps = self.stem(images), []
        for name, child in list(self.body.items())[self._stem_length() :]:
            values = child(values)
            if name in self.taps:
                maps.append(values)
        return maps

    def stem(self, images: Tensor) -> Tensor:
        """What comes before the first tap."""
        values = images
        for child in list(self.body.values())[: self._stem_length()]:
            values = child(values)
        return values

    def _stem_length(self) -> int:
        return list(self.body).index(self.taps[0])


def finished(network: nn.Module, *, norm: Norm, weights: Path | None) -> nn.Module:
    """The network with weights read from `weights`, where given, and its batch normalisation replaced as asked."""
    if weights is not None:
        load_state(network, read_state(weights), source=weights)
    replace_norm(network, norm)
    return network
