"""Menu of necks. Each module exports `build(in_channels, *, ...) -> Neck`; its name is the option's name.

A `Neck` turns the backbone's maps into levels: a dict of maps (B, `out_channels`, H/s, W/s), finest first, with
`strides` s. The RPN looks at every level; RoIs are pooled from the first `roi_levels` ones, keys "0", "1", ...

`in_channels` are those of the backbone's four maps. A neck whose `leaves_last_stage` is true does without the last
one: the stage that makes it becomes a head that the box and the mask branch share.
"""

from typing import Protocol

from torch import Tensor


class Neck(Protocol):
    """What the region proposal network and the RoI heads are built on."""

    out_channels: int
    strides: tuple[int, ...]
    roi_levels: int
    leaves_last_stage: bool

    def __call__(self, maps: list[Tensor]) -> dict[str, Tensor]: ...
