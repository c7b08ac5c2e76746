"""Shared by the backbones of the ResNet family, from torchvision or timm: they name their layers alike."""

from torch import nn

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm, replace_norm
from tis_ray.models.backbones._stem import Stem, replaced_by, with_stem
from tis_ray.models.backbones._weights import Weights, load_state, read_weights
from tis_ray.models.deformable import DeformableConv2d


def resnet_features(
    network: nn.Module, name: str, *, norm: Norm, weights: Weights, stem: Stem = "7x7", deformable: bool = False
) -> Features:
    """Maps of stages 2 to 5 of a network with random weights and the 7x7 stem; it is changed in place.

    `name` is torchvision's or timm's of the network, by which a name of weights is looked up. `weights` are those of
    the same network with the same stem, or with the 7x7 one: then exactly what `replaced_by` tells stays random, and
    all the rest must fit. `deformable` replaces the 3x3 convolutions of stages 3 to 5 after that: weights are those of
    the plain network, and so at first are the maps.
    """
    top = network.fc.in_features
    with_stem(network, stem)
    if weights is not None:
        state = read_weights(weights, name)
        plain = "conv1.weight" in state
        load_state(network, state, source=weights, stays_fresh=lambda key: plain and replaced_by(stem, key))
    replace_norm(network, norm)
    if deformable:
        _deform(network)
    return Features(network, ("layer1", "layer2", "layer3", "layer4"), (top // 8, top // 4, top // 2, top))


def _deform(network: nn.Module) -> None:
    """Let `conv2` of every block of stages 3 to 5 be deformable: a bottleneck's 3x3 one, a basic block's second."""
    for stage in (network.layer2, network.layer3, network.layer4):
        for block in stage:
            block.conv2 = DeformableConv2d.of(block.conv2)
