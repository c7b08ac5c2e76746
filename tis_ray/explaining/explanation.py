"""All figures that explain the scores of one set of results: worked out once, shown by pages, written as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.coco import UNDEFINED, CocoReport
from tis_ray.evaluation.comparison import Result
from tis_ray.evaluation.confusion import Confusion, confusion
from tis_ray.evaluation.error_curves import ErrorCurves, error_curves
from tis_ray.evaluation.greedy import match, roles_by_class
from tis_ray.evaluation.image_quality import ImageQuality, image_quality
from tis_ray.evaluation.outcomes import IOU, MIN_SCORE, Outcomes, outcomes
from tis_ray.evaluation.overlaps import Kind, Overlaps, overlaps
from tis_ray.evaluation.reliability import Reliability, reliability
from tis_ray.evaluation.size_bins import SizeBins, size_bins
from tis_ray.formats.dataset import GroundTruth


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What explains a set of results, all of one kind: of masks where there are any, else of boxes.

    min_score: what is found with less is left out of counts and pictures: the score with the best F1 at an overlap of
               0.5, the harmonic mean of precision and recall
    seen:      what became of each detection and object at that score
    """

    kind: Kind
    dataset: GroundTruth
    results: Sequence[Result]
    overlaps: Overlaps
    min_score: float
    seen: Outcomes
    curves: ErrorCurves
    sizes: SizeBins
    reliability: Reliability
    confusion: Confusion
    images: ImageQuality

    @property
    def word(self) -> str:
        """`mask` or `box`."""
        return "mask" if self.kind == "segm" else "box"

    def num_objects(self) -> NDArray[np.int64]:
        """Objects of each class (K,), without crowds."""
        there = self.overlaps.object_labels[~self.overlaps.crowd]
        return np.bincount(there, minlength=len(self.dataset.categories))

    def class_counts(self) -> dict[str, NDArray[np.int64]]:
        """Hits, false and missed of each class (K,), at `min_score`."""
        found, there, count = self.overlaps.labels, self.overlaps.object_labels, len(self.dataset.categories)
        return {
            "hits": np.bincount(found[self.seen.hits], minlength=count),
            "false": np.bincount(found[self.seen.false], minlength=count),
            "missed": np.bincount(there[self.seen.missed], minlength=count),
        }

    def class_rows(self, report: CocoReport) -> list[dict[str, Any]]:
        """One entry for each class: name, AP or None, objects, hits, false and missed."""
        per_class, objects, counts = report[self.kind].AP_per_class, self.num_objects(), self.class_counts()
        return [
            {
                "class": name,
                "AP": None if per_class.get(name, UNDEFINED) < 0 else per_class[name],
                "objects": int(objects[i]),
                **{key: int(values[i]) for key, values in counts.items()},
            }
            for i, name in enumerate(self.dataset.categories.names)
        ]

    def to_json(self, report: CocoReport) -> dict[str, Any]:
        """Plain values; None for what is undefined."""
        trusted = self.reliability
        return {
            "kind": self.kind,
            "min_score": self.min_score,
            "error_curves": self.curves.to_json(),
            "size_bins": self.sizes.to_json(),
            "calibration": {
                "ece": _finite(trusted.ece),
                "nll": _finite(trusted.nll),
                "mean_scores": [_finite(value) for value in trusted.mean_scores.tolist()],
                "hit_rates": [_finite(value) for value in trusted.hit_rates.tolist()],
                "counts": trusted.counts.tolist(),
            },
            "confusion": self.confusion.to_json(),
            "classes": self.class_rows(report),
            "images": self.images.to_json(),
        }


def explain(
    dataset: GroundTruth, results: Sequence[Result], *, kind: Kind | None = None, min_score: float | None = None
) -> Explanation:
    """Work all of it out. By default masks are looked at where any result has one, and `min_score` is `best_score`."""
    if kind is None:
        kind = "segm" if any("segmentation" in one for one in results) else "bbox"
    pairs = overlaps(dataset, results, kind=kind)
    chosen = best_score(pairs) if min_score is None else min_score
    return Explanation(
        kind,
        dataset,
        results,
        pairs,
        chosen,
        outcomes(pairs, min_score=chosen),
        error_curves(pairs, dataset.categories),
        size_bins(pairs, dataset.categories),
        _reliability(pairs),
        confusion(pairs, dataset.categories, min_score=chosen),
        image_quality(pairs, min_score=chosen),
    )


def best_score(pairs: Overlaps) -> float:
    """The least score to show for the best F1 of all classes together; 0.3 where nothing is hit."""
    hits, counted = _judged(pairs)
    order = np.argsort(-pairs.scores, kind="stable")
    order = order[counted[order]]
    true = np.cumsum(hits[order])
    if not len(true) or true[-1] == 0:
        return MIN_SCORE
    f1 = 2 * true / (np.arange(1, len(true) + 1) + int((~pairs.crowd).sum()))
    scores = pairs.scores[order]
    last = np.append(scores[1:] < scores[:-1], True)  # equal scores are shown together
    return float(scores[int(np.argmax(np.where(last, f1, -1)))])


def _reliability(pairs: Overlaps) -> Reliability:
    hits, counted = _judged(pairs)
    return reliability(pairs.scores[counted].astype(np.float32), hits[counted])


def _judged(pairs: Overlaps) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each detection, whatever its score: whether it is a hit, and whether it counts either way."""
    matched = match(pairs, roles_by_class(pairs, np.zeros(len(pairs.crowd), dtype=np.bool_)), thresholds=(IOU,))
    return matched.hits[0], matched.counted[0]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
