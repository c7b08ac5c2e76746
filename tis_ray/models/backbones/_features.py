"""Shared by the backbones: feature taps of a classification network, its normalisation and weights."""

from collections import OrderedDict

from torch import Tensor, nn

from tis_ray.errors import ConfigError
from tis_ray.models.backbones._norm import Norm, replace_norm
from tis_ray.models.backbones._weights import Weights, load_state, read_weights


class Stage(nn.Sequential):
    """The end of a network: maps (B, C, H, W) of the stage before to (B, `out_channels`, H/2, W/2)."""

    def __init__(self, children: OrderedDict[str, nn.Module], *, out_channels: int) -> None:
        super().__init__(children)
        self.out_channels = out_channels


class Features(nn.Module):
    """Maps of a network that calls its children one after the other: the outputs of `taps`, finest first."""

    def __init__(self, network: nn.Module, taps: tuple[str, ...], channels: tuple[int, ...]) -> None:
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

    def take_last_stage(self) -> Stage:
        """Remove what makes the last map of the one before it, and return it: from now on there is one map less."""
        names = list(self.body)
        taken = names[names.index(self.taps[-2]) + 1 :]
        stage = Stage(OrderedDict((name, self.body.pop(name)) for name in taken), out_channels=self.channels[-1])
        self.taps, self.channels = self.taps[:-1], self.channels[:-1]
        return stage

    def _stem_length(self) -> int:
        return list(self.body).index(self.taps[0])


def finished(network: nn.Module, name: str, *, norm: Norm = "batch", weights: Weights) -> nn.Module:
    """The network with `weights`, where given, and its batch normalisation replaced as asked; it is changed in place.

    `name` is torchvision's or timm's of the network, by which a name of weights is looked up. Raises `ConfigError` for
    another `norm` than "batch" where there is no batch normalisation to replace.
    """
    if norm != "batch" and not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        raise ConfigError(f"detector.backbone.{name}.norm: expected a network with batch normalisation; got {norm}")
    if weights is not None:
        load_state(network, read_weights(weights, name), source=weights)
    replace_norm(network, norm)
    return network
