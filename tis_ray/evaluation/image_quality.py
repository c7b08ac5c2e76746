"""How good each image's results are, by one number and the counts behind it: to look at the worst and the best."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.outcomes import IOU, MIN_SCORE, outcomes
from tis_ray.evaluation.overlaps import Overlaps


@dataclass(frozen=True, slots=True, eq=False)
class ImageQuality:
    """Of I images, in the order of the data set.

    quality: float64 (I,) the sum of the overlaps of hits, divided by hits + (false + missed) / 2: panoptic quality
             (Kirillov et al. 2019) of all classes together, 0 to 1; NaN for an image with nothing to find or to judge
    f1:      float64 (I,) the same where every hit counts 1: the harmonic mean of precision and recall
    hits, false, missed: int64 (I,)
    """

    image_ids: NDArray[np.int64]
    quality: NDArray[np.float64]
    f1: NDArray[np.float64]
    hits: NDArray[np.int64]
    false: NDArray[np.int64]
    missed: NDArray[np.int64]

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images whose quality is known, by ascending quality; of equals the one with more errors."""
        known = np.flatnonzero(~np.isnan(self.quality))
        return known[np.lexsort((known, -(self.false + self.missed)[known], self.quality[known]))]

    def best_first(self) -> NDArray[np.int64]:
        """The same by descending quality; of equals the one with more hits."""
        known = np.flatnonzero(~np.isnan(self.quality))
        return known[np.lexsort((known, -self.hits[known], -self.quality[known]))]

    def to_json(self) -> list[dict[str, Any]]:
        """One entry for each image."""
        return [
            {
                "image_id": int(self.image_ids[i]),
                "quality": None if np.isnan(self.quality[i]) else float(self.quality[i]),
                "f1": None if np.isnan(self.f1[i]) else float(self.f1[i]),
                "hits": int(self.hits[i]),
                "false": int(self.false[i]),
                "missed": int(self.missed[i]),
            }
            for i in range(len(self.image_ids))
        ]


def image_quality(overlaps: Overlaps, *, iou: float = IOU, min_score: float = MIN_SCORE) -> ImageQuality:
    """Detections of `min_score` or more, matched class by class as `outcomes` has it."""
    seen = outcomes(overlaps, iou=iou, min_score=min_score)
    count = len(overlaps.image_ids)
    hits = np.bincount(overlaps.images[seen.hits], minlength=count)
    false = np.bincount(overlaps.images[seen.false], minlength=count)
    missed = np.bincount(overlaps.object_images[seen.missed], minlength=count)
    whole = hits + (false + missed) / 2
    whole = np.where(whole > 0, whole, np.nan)
    sums = np.bincount(overlaps.images[seen.hits], weights=seen.ious[seen.hits], minlength=count)
    return ImageQuality(overlaps.image_ids, sums / whole, hits / whole, hits, false, missed)
