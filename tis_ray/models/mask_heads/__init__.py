"""Menu of mask heads. Each module exports `build(in_channels, pool_size, num_classes, *, ...) -> MaskHead`; its name is
the option's.

A `MaskHead`, an `nn.Module`, turns pooled regions, float (R, `in_channels`, `pool_size`, `pool_size`), into the mask
logits of each region's own class. `num_classes` leaves background out, of which layers with a row for each class have
one nevertheless, the first: labels count from 1.
"""

from typing import NamedTuple, Protocol

from torch import Tensor


class MaskLogits(NamedTuple):
    """What a mask head says of R regions, each of its own class.

    masks:    logits (R, M, M): the last one is the answer, all of them are to be learnt
    boundary: logits (R, M, M) of the mask's contour to be learnt, or None
    features: (R, C, S, S) of the last convolution before up-sampling, C being the head's `channels`
    """

    masks: tuple[Tensor, ...]
    boundary: Tensor | None
    features: Tensor


class MaskHead(Protocol):
    """What segments regions.

    size:        M, the side of its masks
    channels:    of `MaskLogits.features`
    finest_size: the side F at which it is also given each region pooled from the finest level, as `finest` float (R, C
                 of the pyramid, F, F); None for a head that is not and has no such argument
    """

    size: int
    channels: int
    finest_size: int | None

    def __call__(self, regions: Tensor, labels: Tensor, *, finest: Tensor = ...) -> MaskLogits: ...
