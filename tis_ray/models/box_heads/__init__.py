"""Menu of box heads. Each module exports `build(in_channels, pool_size, *, ...) -> BoxHead`; its name is the option's.

A `BoxHead` turns regions pooled from the pyramid, float (R, `in_channels`, `pool_size`, `pool_size`), into vectors
(R, `out_channels`) from which classes and box deltas are predicted.
"""

from typing import Protocol

from torch import Tensor


class BoxHead(Protocol):
    """What the class and box predictors are built on."""

    out_channels: int

    def __call__(self, regions: Tensor) -> Tensor: ...
