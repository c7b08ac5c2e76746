"""COCO's metric and LVIS's: average precision of boxes and masks, by size, class and frequency, with intervals.

Overlaps and matches (`overlaps`, `greedy`) are those of pycocotools and of the lvis package, worked out for all images
and classes at once; tests hold the scores equal to theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.evaluation import bootstrap as resampling
from tis_ray.evaluation.comparison import Result, held
from tis_ray.evaluation.greedy import (
    SIZES,
    Matched,
    best_first,
    inside,
    match,
    positives_of,
    precision_curves,
    ranks,
    roles_by_class,
)
from tis_ray.evaluation.overlaps import Kind, Metric, Overlaps, overlaps
from tis_ray.formats.dataset import GroundTruth, is_federated
from tis_ray.instances import Categories

KINDS: tuple[Kind, ...] = ("bbox", "segm")
METRICS: tuple[Metric, ...] = get_args(Metric)
UNDEFINED = -1.0  # COCO's value for a score that has no object to be computed from
FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}

_AP = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True, slots=True)
class KindScores:
    """Scores of boxes or of masks by COCO's names, 0..1, or -1 where there is nothing to compute one from.

    AP is the mean over the overlaps 0.50:0.95; s, m and l are objects below 32 px, below 96 px and above (the
    root of their area); r, c and f the means of rare, common and frequent classes, as the categories' `frequency` says;
    AR100 is the recall with 100 instances an image, AR300 LVIS's. Intervals are the 95% bootstrap intervals of the
    scores, None where none was asked for or possible; `AP_per_class` has each class of the data set.
    """

    AP: float = UNDEFINED
    AP50: float = UNDEFINED
    AP75: float = UNDEFINED
    APs: float = UNDEFINED
    APm: float = UNDEFINED
    APl: float = UNDEFINED
    AR100: float = UNDEFINED
    AP_interval: tuple[float, float] | None = None
    AP_per_class: Mapping[str, float] = field(default_factory=dict)
    APr: float = UNDEFINED
    APc: float = UNDEFINED
    APf: float = UNDEFINED
    AR300: float = UNDEFINED
    APr_interval: tuple[float, float] | None = None
    APc_interval: tuple[float, float] | None = None
    APf_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CocoReport:
    """The scores of one set of results; `report["bbox"].AP`, `report["segm"].APs`, ... Crowds are no objects.

    `names` are those of the scores that `metric` has for the data set, in the order of a table.
    """

    num_images: int
    num_objects: int
    num_results: int
    scores: Mapping[str, KindScores]
    metric: Metric = "coco"
    names: tuple[str, ...] = (*_AP, "AR100")

    def __getitem__(self, kind: str) -> KindScores:
        return self.scores[kind]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; undefined scores stay -1, as COCO has them."""
        kept = {*self.names, *(f"{name}_interval" for name in self.names), "AP_per_class"}
        return {
            "metric": self.metric,
            "num_images": self.num_images,
            "num_objects": self.num_objects,
            "num_results": self.num_results,
            **{
                kind: {name: value for name, value in asdict(scores).items() if name in kept}
                for kind, scores in self.scores.items()
            },
        }


def evaluate(
    dataset: GroundTruth,
    results: Sequence[Result],
    *,
    kinds: Sequence[str] = KINDS,
    metric: Metric | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> CocoReport:
    """Score COCO results (see `tis_ray.formats.coco_results`) against a data set.

    Images without results count, classes without objects do not; what is found within a crowd, a region to ignore
    among them, is neither right nor wrong. Sizes are judged by the annotation's `area` and, for what was found, by the
    area of the box or of the mask itself. Where results hold no masks at all, the scores of "segm" are undefined; where
    some have none, those have found no pixel. Boxes are ranked by `score`, masks by `mask_score` where there is one.
    `metric` is by default `lvis` where any image says which classes were looked for, else `coco`; by LVIS's rules
    (see `federated`) 300 instances of an image count, by COCO's 100 of an image and class.
    `bootstrap` is the number of times the images are drawn anew for the intervals; one `seed` draws the same
    images for every set of results, which makes them comparable.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"kinds: expected some of {', '.join(KINDS)}; got {kind!r}")
    if metric is None:
        metric = "lvis" if is_federated(dataset) else "coco"
    if metric not in METRICS:
        raise InputError(f"metric: expected one of {', '.join(METRICS)}; got {metric!r}")
    dataset = held(dataset)
    scores: dict[str, KindScores] = {}
    for kind in KINDS:
        if kind not in kinds:
            continue
        if len(dataset) == 0 or len(dataset.categories) == 0 or (kind == "segm" and _without_masks(results)):
            scores[kind] = KindScores(AP_per_class=dict.fromkeys(dataset.categories.names, UNDEFINED))
        else:
            pairs = overlaps(dataset, results, kind=kind, metric=metric)
            scores[kind] = _scores(pairs, dataset.categories, bootstrap, seed)
    groups = FREQUENCIES if dataset.categories.frequency else ()
    names = (*_AP, *groups, "AR300" if metric == "lvis" else "AR100")
    num_objects = sum(not one.get("iscrowd", 0) for record in dataset.images for one in dataset.entries(record.id))
    return CocoReport(len(dataset), num_objects, len(results), scores, metric, names)


def _scores(pairs: Overlaps, categories: Categories, samples: int, seed: int) -> KindScores:
    sizes = {name: _of_size(pairs, len(categories), size) for name, size in SIZES.items()}
    everything = sizes["all"]
    precision = precision_curves(pairs, everything.matched, everything.positives)  # (T, 101, K)
    groups = _groups(categories)
    others: dict[str, Any] = {name: _mean(precision[..., members]) for name, members in groups.items()}
    others["AR300" if pairs.max_instances is None else "AR100"] = _recall(pairs, everything)
    if samples:
        others |= _intervals(pairs, everything, groups, samples, seed)
    return KindScores(
        AP=_mean(precision),
        AP50=_mean(precision[0]),
        AP75=_mean(precision[5]),
        APs=_mean(precision_curves(pairs, sizes["small"].matched, sizes["small"].positives)),
        APm=_mean(precision_curves(pairs, sizes["medium"].matched, sizes["medium"].positives)),
        APl=_mean(precision_curves(pairs, sizes["large"].matched, sizes["large"].positives)),
        AP_per_class={name: _mean(precision[..., i]) for i, name in enumerate(categories.names)},
        **others,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _OfSize:
    """What became of all detections where only objects of a size count, and how many of each class those are (K,)."""

    matched: Matched
    positives: NDArray[np.int64]


def _of_size(pairs: Overlaps, num_classes: int, size: tuple[float, float]) -> _OfSize:
    ignored = ~inside(pairs.object_areas, size)
    matched = match(pairs, roles_by_class(pairs, ignored), size=size)
    return _OfSize(matched, positives_of(pairs, ignored, num_classes))


def _recall(pairs: Overlaps, of: _OfSize) -> float:
    """The mean recall of the classes that have objects, at all overlaps."""
    there = of.positives > 0
    hits = of.matched.hits if pairs.max_instances is None else of.matched.hits & (ranks(pairs) < pairs.max_instances)
    found = np.stack([np.bincount(pairs.labels[row], minlength=len(there)) for row in hits])
    return _mean(found[:, there] / of.positives[there])


def _intervals(
    pairs: Overlaps, of: _OfSize, groups: Mapping[str, NDArray[np.bool_]], samples: int, seed: int
) -> dict[str, tuple[float, float] | None]:
    """The images are matched once, at all sizes together, and then resampled."""
    times = resampling.draws(len(pairs.image_ids), num_samples=samples, seed=seed)
    by_class = resampling.class_samples(_matches(pairs, of), times)
    everything = np.ones(by_class.shape[1], dtype=np.bool_)
    return {
        f"{name}_interval": resampling.percentile_interval(resampling.class_means(by_class[:, members]))
        for name, members in {"AP": everything, **groups}.items()
    }


def _matches(pairs: Overlaps, of: _OfSize) -> list[resampling.ClassMatches]:
    """Of each class."""
    order, starts = best_first(pairs, len(of.positives))
    objects = np.zeros((len(of.positives), len(pairs.image_ids)), dtype=np.int64)
    np.add.at(objects, (pairs.object_labels[~pairs.crowd], pairs.object_images[~pairs.crowd]), 1)
    hits, ignored, images = of.matched.hits, ~of.matched.counted, pairs.images
    return [
        resampling.ClassMatches(hits[:, mine], ignored[:, mine], images[mine], objects[label])
        for label, mine in enumerate(np.split(order, starts[1:-1]))
    ]


def _groups(categories: Categories) -> dict[str, NDArray[np.bool_]]:
    """Which classes, bool (K,), each score by frequency is the mean of; none where no class has a frequency."""
    if not categories.frequency:
        return {}
    return {name: np.array(categories.frequency) == letter for name, letter in FREQUENCIES.items()}


def _without_masks(results: Sequence[Result]) -> bool:
    """Whether there are results and none has a mask."""
    return len(results) > 0 and not any("segmentation" in result for result in results)


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else UNDEFINED
