"""Menu of necks. Each module exports `build(in_channels, *, ...) -> Neck`; its name is the option's name.

A `Neck` turns the backbone's maps into a pyramid: a dict of maps (B, `out_channels`, H/s, W/s), finest first.
The RPN looks at every level; RoIs are pooled from the first four, keys "0" to "3".
"""

from typing import Protocol

from torch import Tensor


class Neck(Protocol):
    """What the region proposal network and the RoI heads are built on."""

    out_channels: int

    def __call__(self, maps: list[Tensor]) -> dict[str, Tensor]: ...
