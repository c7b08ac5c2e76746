"""Menu of rules that match anchors with objects. Each module exports `build(*, ...) -> AnchorMatcher`; its name is the
option's name.

An `AnchorMatcher` looks at the anchors of one image, float (A, 4), and its objects' boxes, float (G, 4), both xyxy in
the network frame, and answers for each anchor

labels:  int64 (A,) 1 for a positive example, 0 for a negative one, -1 for neither
matched: int64 (A,) which object it is closest to; 0 where there are none

A large frame has millions of anchors: `_overlaps.stretches` goes through their overlaps with the objects in pieces.
An object that no anchor overlaps makes none positive.
"""

from typing import Protocol

from torch import Tensor


class AnchorMatcher(Protocol):
    """What the region proposal network is trained by."""

    def __call__(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]: ...
