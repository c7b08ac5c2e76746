"""Shared by the backbones of the ResNet family, from torchvision or timm: they name their layers alike."""

from pathlib import Path

from torch import nn

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm, replace_norm
from tis_ray.models.backbones._stem import Stem, replaced_by, with_stem
from tis_ray.models.backbones._weights import load_state, read_state


def resnet_features(network: nn.Module, *, norm: Norm, weights: Path | None, stem: Stem) -> Features:
    """Maps of stages 2 to 5 of a network with random weights and the 7x7 stem; it is changed in place.

    `weights` is a state dict of the same network with the same stem, or with the 7x7 one: then exactly what
    `replaced_by` tells stays random, and all the rest must fit.
    """
    top = network.fc.in_features
    with_stem(network, stem)
    if weights is not None:
        state = read_state(weights)
        plain = "conv1.weight" in state
        load_state(network, state, source=weights, stays_fresh=lambda key: plain and replaced_by(stem, key))
    replace_norm(network, norm)
    return Features(network, ("layer1", "layer2", "layer3", "layer4"), (top // 8, top // 4, top // 2, top))
