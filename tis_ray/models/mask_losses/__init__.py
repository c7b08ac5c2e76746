"""Menu of mask losses. Each module exports `build(*, ...) -> MaskLoss`; its name is the option's.

A `MaskLoss` is the mean over R > 0 regions of how far the mask logits of each one's own class, float32 (R, M, M), are
from its target, float (R, M, M) in 0..1: the share of each cell that the object covers.
"""

from typing import Protocol

from torch import Tensor


class MaskLoss(Protocol):
    """What mask logits are trained by."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor: ...
