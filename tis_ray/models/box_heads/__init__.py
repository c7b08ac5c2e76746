"""Menu of box heads. Each module exports `build(in_channels, pool_size, *, ...) -> BoxHead`; its name is the option's.

A `BoxHead` turns regions pooled from the pyramid, float (R, `in_channels`, `pool_size`, `pool_size`), into two sets of
vectors: what classes are told from, (R, `class_channels`), and what boxes are refined by, (R, `box_channels`). A head
without branches gives the same ones twice.
"""

from typing import Protocol

from torch import Tensor


class BoxHead(Protocol):
    """What the classifier and the box layer are built on."""

    class_channels: int
    box_channels: int

    def __call__(self, regions: Tensor) -> tuple[Tensor, Tensor]: ...
