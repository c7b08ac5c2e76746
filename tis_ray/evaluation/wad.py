"""Two metrics for the WAD 2018 data set, neither of which is official: the scorer of that challenge was not published.

The Kaggle metric is as an entrant restated the challenge's page: at ten overlaps from 0.5 on, a prediction is matched
where its IoU with an object of its class is larger; of several predictions on one object the one with the largest IoU
is right and the others are wrong; what is not matched is wrong, unless its IoU with the regions to ignore is larger
than that overlap. The precision is interpolated (what is best from a recall on) and its area taken over all images;
the mean is that of the overlaps and of the classes that have objects. Restatements differ in how they interpolate, and
some match by score: the other metric here, COCO's over the seven evaluated classes, is one of those.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.coco import UNDEFINED, CocoReport, evaluate
from tis_ray.evaluation.comparison import Result, annotations_of, held
from tis_ray.evaluation.greedy import THRESHOLDS, positives_of
from tis_ray.evaluation.overlaps import Overlaps, overlaps, runs_of
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.wad_classes import RIDER
from tis_ray.instances import Categories
from tis_ray.ops.run_algebra import pairwise_iou, union


@dataclass(frozen=True, slots=True)
class KaggleReport:
    """Scores of masks by the restated Kaggle metric, 0..1, or -1 where there is nothing to find.

    AP is the mean over the overlaps 0.50:0.95, AP50 and AP75 are those at one overlap; `AP_per_class` has each
    evaluated class of the data set.
    """

    num_images: int
    num_objects: int
    num_results: int
    AP: float
    AP50: float
    AP75: float
    AP_per_class: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers; undefined scores stay -1."""
        return {"metric": "wad-kaggle", **asdict(self)}


def evaluate_kaggle(dataset: GroundTruth, results: Sequence[Result]) -> KaggleReport:
    """Score the masks of COCO results by the restated Kaggle metric; a result without a mask has no pixel.

    Classes that WAD does not evaluate (riders) count neither way; a data set of other classes is scored by all of them.
    An image's regions to ignore, or crowds, of a class are taken together as one region.
    """
    dataset, results = _evaluated(dataset, results)
    pairs = overlaps(dataset, results, kind="segm", metric="coco")
    positives = positives_of(pairs, np.zeros(len(pairs.crowd), dtype=np.bool_), len(dataset.categories))
    right, best = _right(pairs)
    hits = right & (best > THRESHOLDS[:, None])
    counted = hits | ~(_ignored_ious(dataset, results, pairs) > THRESHOLDS[:, None])
    scores = np.full((len(THRESHOLDS), len(positives)), np.nan)
    for label in np.flatnonzero(positives):
        mine = np.flatnonzero(pairs.labels == label)
        mine = mine[np.argsort(-pairs.scores[mine], kind="stable")]
        areas = [_area(*both, int(positives[label])) for both in zip(hits[:, mine], counted[:, mine], strict=True)]
        scores[:, label] = areas
    per_class = {name: _mean(scores[:, label]) for label, name in enumerate(dataset.categories.names)}
    overall = _mean(scores), _mean(scores[0]), _mean(scores[5])
    return KaggleReport(len(dataset), int(positives.sum()), len(results), *overall, per_class)


def evaluate_coco(dataset: GroundTruth, results: Sequence[Result], *, bootstrap: int = 0, seed: int = 0) -> CocoReport:
    """Score masks by COCO's metric, 100 instances of an image and class, on the classes that WAD evaluates."""
    dataset, results = _evaluated(dataset, results)
    return evaluate(dataset, results, kinds=("segm",), metric="coco", bootstrap=bootstrap, seed=seed)


def _evaluated(dataset: GroundTruth, results: Sequence[Result]) -> tuple[GroundTruth, Sequence[Result]]:
    """Both without riders, and the data set in memory."""
    kept = [one for one in dataset.categories.to_json() if (one["id"], one["name"]) != (RIDER, "rider")]
    if len(kept) == len(dataset.categories):
        return held(dataset), results
    entries = [one for record in dataset.images for one in dataset.entries(record.id) if one["category_id"] != RIDER]
    scored = CocoDataset(dataset.path, dataset.images, Categories.from_json(kept), entries)
    return scored, [one for one in results if one["category_id"] != RIDER]


def _right(pairs: Overlaps) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """For each detection whether no other one overlaps its object more, and its IoU with it, 0 without one, (N,) each.

    Its object is that of its class which it overlaps most; of equal detections the one with the larger score is right.
    """
    detections = pairs.detections
    own = (pairs.labels[detections] == pairs.object_labels[pairs.objects]) & ~pairs.crowd[pairs.objects]
    detections, objects, ious = detections[own], pairs.objects[own], pairs.ious[own]
    order = np.lexsort((objects, -ious, detections))
    first = order[np.unique(detections[order], return_index=True)[1]]  # the best pair of each detection
    detections, objects, ious = detections[first], objects[first], ious[first]
    best = np.zeros(len(pairs.rows))
    best[detections] = ious
    order = np.lexsort((detections, -ious, objects))
    winners = detections[order[np.unique(objects[order], return_index=True)[1]]]
    right = np.zeros(len(pairs.rows), dtype=np.bool_)
    right[winners] = True
    return right, best


def _ignored_ious(dataset: GroundTruth, results: Sequence[Result], pairs: Overlaps) -> NDArray[np.float64]:
    """The IoU of each detection's mask with the regions to ignore of its class in its image, (N,)."""
    ious = np.zeros(len(pairs.rows))
    truth = annotations_of(dataset, masks=True) if pairs.crowd.any() else []
    keys = pairs.object_images * len(dataset.categories) + pairs.object_labels
    for key in np.unique(keys[pairs.crowd]).tolist():
        i, label = divmod(key, len(dataset.categories))
        detections = pairs.offsets[i] + np.flatnonzero(pairs.labels[pairs.offsets[i] : pairs.offsets[i + 1]] == label)
        size_hw = dataset.images[i].height, dataset.images[i].width
        found = runs_of([results[row].get("segmentation") for row in pairs.rows[detections]], *size_hw)
        rows = pairs.object_rows[(keys == key) & pairs.crowd]
        region = union(runs_of([truth[row]["segmentation"] for row in rows], *size_hw))
        ious[detections] = pairwise_iou(found, region)[:, 0]
    return ious


def _area(hits: NDArray[np.bool_], counted: NDArray[np.bool_], positives: int) -> float:
    """The area below the interpolated precision of detections (N,), the best first."""
    true = np.cumsum(hits[counted])
    precision = true / np.arange(1, len(true) + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    return float(interpolated[hits[counted]].sum() / positives)


def _mean(scores: NDArray[np.float64]) -> float:
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if len(defined) else UNDEFINED
