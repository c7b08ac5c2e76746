"""Regions drawn at random, a fixed share of them positive (Girshick 2015), as in the baseline Mask R-CNN."""

from tis_ray.models.roi_sampling import Candidates, RoiSampler, Sample
from tis_ray.models.roi_sampling._fill import fill, overlapping


def sample_at_random(candidates: Candidates, *, size: int, max_positives: int, positive_iou: float) -> Sample:
    """Positives overlap an object by at least `positive_iou`; all others but the ignored are negatives."""
    return fill(candidates, overlapping(candidates, positive_iou), size=size, max_positives=max_positives)


def build() -> RoiSampler:
    """Random positives and negatives."""
    return sample_at_random
