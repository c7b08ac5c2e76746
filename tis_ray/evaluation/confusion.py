"""Which classes are taken for which, what is found where nothing is, and what is missed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.outcomes import IOU, MIN_SCORE, outcomes
from tis_ray.evaluation.overlaps import Overlaps
from tis_ray.instances import Categories

BACKGROUND, MISSED = "background", "missed"


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """How often what is there was found as what.

    counts: int64 (K + 1, K + 1): rows are the classes of objects and behind them the background, columns the classes
            that were found and behind them `missed`; `counts[K, K]` is 0
    """

    counts: NDArray[np.int64]
    categories: Categories
    iou: float
    min_score: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each row's parts of one, NaN in rows of nothing."""
        sums = self.counts.sum(axis=1, keepdims=True)
        return self.counts / np.where(sums > 0, sums, np.nan)

    def to_json(self) -> dict[str, Any]:
        """Counts by the names of rows and columns."""
        return {
            "iou": self.iou,
            "min_score": self.min_score,
            "rows": [*self.categories.names, BACKGROUND],
            "columns": [*self.categories.names, MISSED],
            "counts": self.counts.tolist(),
        }


def confusion(
    overlaps: Overlaps, categories: Categories, *, iou: float = IOU, min_score: float = MIN_SCORE
) -> Confusion:
    """Detections of `min_score` or more, matched without regard to classes.

    By descending score each takes the free object of any class that it overlaps most, at least by `iou`: the pair
    counts in the object's row and the detection's column. Who gets none counts as found in the background, an object
    that nobody took as missed. What lies on a crowd or a region to ignore, or what nobody can judge, does not count.
    """
    count = len(categories)
    seen = outcomes(overlaps, iou=iou, min_score=min_score, by_class=False)
    counts = np.zeros((count + 1, count + 1), dtype=np.int64)
    np.add.at(counts, (overlaps.object_labels[seen.objects[seen.hits]], overlaps.labels[seen.hits]), 1)
    counts[count, :count] = np.bincount(overlaps.labels[seen.false], minlength=count)
    counts[:count, count] = np.bincount(overlaps.object_labels[seen.missed], minlength=count)
    return Confusion(counts, categories, iou, min_score)
