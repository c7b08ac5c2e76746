"""What a ResNet does with the pixels before its first stage: one 7x7 convolution, or several 3x3 ones.

A 7x7 convolution of stride 2 blurs objects of a few pixels; PSPNet (Zhao et al. 2017) and the winner of the WAD 2018
challenge begin with 3x3 convolutions instead. The new layers keep torchvision's names and take timm's for what is
new (`conv1.0` to `conv1.6`), so that ImageNet weights of timm's `resnet50s`, `resnet101s` and `resnet152s` load into
`deep3` by name.
"""

from itertools import pairwise
from typing import Literal

from torch import nn

Stem = Literal["7x7", "deep3", "deep2"]
# Channels after each 3x3 convolution; the first one has stride 2.
_WIDTHS = {"deep3": (64, 64, 128), "deep2": (64, 64)}
_FIRST_BLOCK_INPUTS = ("layer1.0.conv1.weight", "layer1.0.downsample.")


def with_stem(network: nn.Module, stem: Stem) -> nn.Module:
    """The ResNet `network`, of torchvision or timm, beginning as `stem` says; it is changed in place.

    deep3: 3x3/2 (64), 3x3 (64), 3x3 (128), so that the first block of `layer1` sees 128 channels
    deep2: 3x3/2 (64), 3x3 (64)
    """
    if stem == "7x7":
        return network
    widths, eps = _WIDTHS[stem], network.bn1.eps
    layers: list[nn.Module] = [_conv(3, widths[0], 3, stride=2)]
    for before, width in pairwise(widths):
        layers += [nn.BatchNorm2d(before, eps=eps), nn.ReLU(inplace=True), _conv(before, width, 3)]
    network.conv1 = nn.Sequential(*layers)
    network.bn1 = nn.BatchNorm2d(widths[-1], eps=eps)
    if widths[-1] != 64:
        _widen(network.layer1[0], widths[-1], eps=eps)
    return network


def replaced_by(stem: Stem, key: str) -> bool:
    """Whether the weight `key` of a network with the 7x7 stem has no place in, or another meaning for, this `stem`.

    That is the stem itself with the normalisation behind it and, where the stem is wider, what reads its output:
    the first convolution and the shortcut of the first block.
    """
    if stem == "7x7":
        return False
    wider = _WIDTHS[stem][-1] != 64
    return key.startswith(("conv1.", "bn1.")) or (wider and key.startswith(_FIRST_BLOCK_INPUTS))


def _widen(block: nn.Module, channels: int, *, eps: float) -> None:
    """Let the first residual block read `channels` channels; an identity shortcut becomes a projection."""
    old = block.conv1
    block.conv1 = _conv(channels, old.out_channels, old.kernel_size[0])
    shortcut = block.downsample
    if shortcut is None:
        out_channels = block.conv2.out_channels
        block.downsample = nn.Sequential(_conv(channels, out_channels, 1), nn.BatchNorm2d(out_channels, eps=eps))
    else:
        shortcut[0] = _conv(channels, shortcut[0].out_channels, 1)


def _conv(before: int, after: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
