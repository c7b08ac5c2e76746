"""From what is positive to a sample: negatives, the draw, and the labels of the places."""

import torch
from torch import Tensor

from tis_ray.models.draw import draw
from tis_ray.models.roi_sampling import Candidates, Sample


def overlapping(candidates: Candidates, iou: float) -> Tensor:
    """Bool (N,): overlaps an object, and by at least `iou`; what overlaps none does not, whatever `iou` is."""
    return (candidates.overlaps >= iou) & (candidates.overlaps > 0)


def fill(
    candidates: Candidates,
    positive: Tensor,
    *,
    size: int,
    max_positives: int,
    negatives_among: Tensor | None = None,
    negative_below: float | None = None,
    priority: Tensor | None = None,
) -> Sample:
    """A sample of the positives, bool (N,), and of negatives: all others that are not ignored.

    negatives_among: bool (N,) what negatives are drawn from; by default all
    negative_below:  IoU that a negative stays below; by default any
    priority:        float (N,) at least 0, the positives with the largest are taken; by default chance decides
    """
    negative = ~positive & ~candidates.ignored
    if negatives_among is not None:
        negative = negative & negatives_among
    if negative_below is not None:
        negative = negative & (candidates.overlaps < negative_below)
    drawn = draw(positive, negative, size=size, max_positives=max_positives, priority=priority)
    labels = torch.where(drawn.positive, candidates.labels[drawn.index], 0)
    return Sample(drawn.index, torch.where(drawn.used, labels, -1))
