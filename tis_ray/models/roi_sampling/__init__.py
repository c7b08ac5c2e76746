"""Menu of ways to choose the regions that the box heads learn from. Each module exports
`build(*, ...) -> RoiSampler`; its name is the option's name.

A `RoiSampler` fills S = min(`size`, N) places out of one image's N candidates, of which at most `max_positives` are
positive. Nothing it does waits for a GPU: a place that finds no candidate is marked as unused instead.
"""

from typing import NamedTuple, Protocol

from torch import Tensor


class Candidates(NamedTuple):
    """Proposals of one image, best first, and after them its G objects' own boxes; N of them.

    boxes:         float (N, 4) xyxy in the network frame
    overlaps:      float (N,) IoU with the object that overlaps most; 0 where there are no objects
    matched:       int64 (N,) which object that is; 0 where there are none
    labels:        int64 (N,) that object's class, from 1; 0 where there are none
    ignored:       bool (N,) lies in a region to ignore or shows an unlabelled object, and is never a negative
    object_labels: int64 (G,) classes of all objects, from 1; the last G candidates are their boxes
    """

    boxes: Tensor
    overlaps: Tensor
    matched: Tensor
    labels: Tensor
    ignored: Tensor
    object_labels: Tensor


class Sample(NamedTuple):
    """The places filled: `index` int64 (S,) of a candidate, `labels` int64 (S,): its class from 1, 0 for background,
    -1 for a place that stays unused.
    """

    index: Tensor
    labels: Tensor


class RoiSampler(Protocol):
    """What chooses training regions; `positive_iou` is `box.positive_iou`."""

    def __call__(self, candidates: Candidates, *, size: int, max_positives: int, positive_iou: float) -> Sample: ...
