"""Regions drawn at random, a fixed share of them positive (Girshick 2015), as in the baseline Mask R-CNN."""

import torch

from tis_ray.models.draw import draw
from tis_ray.models.roi_sampling import Candidates, RoiSampler, Sample


def sample_at_random(candidates: Candidates, *, size: int, max_positives: int, positive_iou: float) -> Sample:
    """Positives overlap an object by at least `positive_iou`; all others but the ignored are negatives."""
    positive = candidates.overlaps >= positive_iou if len(candidates.object_labels) else candidates.ignored & False
    drawn = draw(positive, ~positive & ~candidates.ignored, size=size, max_positives=max_positives)
    labels = torch.where(drawn.positive, candidates.labels[drawn.index], 0)
    return Sample(drawn.index, torch.where(drawn.used, labels, -1))


def build() -> RoiSampler:
    """Random positives and negatives."""
    return sample_at_random
