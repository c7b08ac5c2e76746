"""Menu of backbones. Each module exports `build(*, norm, weights, ...) -> Backbone`; its name is the option's name.

A `Backbone` maps images float (B, 3, H, W) to four feature maps (B, C_i, H/s, W/s) of strides s = 4, 8, 16, 32,
and lists their channels. It may hand over its last stage, as `_features.Features` does by `take_last_stage`: the neck
`c4` needs one that does.

The module is called what torchvision or timm calls the network, since names of `weights` are looked up by that.
Networks without batch normalisation have no option `norm`.
"""

from typing import Protocol

from torch import Tensor


class Backbone(Protocol):
    """What a neck is built on."""

    channels: tuple[int, int, int, int]

    def __call__(self, images: Tensor) -> list[Tensor]: ...
