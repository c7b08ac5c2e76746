"""COCO's metric and LVIS's: average precision of boxes and masks, by size, class and frequency, with intervals.

Scores come from faster-coco-eval, which agrees with pycocotools and with the lvis package to the last bits; the matches
that the bootstrap resamples come from pycocotools, which shows them.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tis_ray.errors import InputError
from tis_ray.evaluation import bootstrap as resampling
from tis_ray.evaluation.comparison import Comparison, Result, annotations_of, by_coco, by_lvis
from tis_ray.formats.dataset import GroundTruth, is_federated
from tis_ray.instances import Categories

Metric = Literal["coco", "lvis"]

KINDS = ("bbox", "segm")
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
    truth = annotations_of(dataset, masks="segm" in kinds)
    scores = {}
    for kind in kinds:
        if len(dataset) == 0 or len(dataset.categories) == 0 or (kind == "segm" and _without_masks(results)):
            scores[kind] = KindScores(AP_per_class=dict.fromkeys(dataset.categories.names, UNDEFINED))
        else:
            compare = by_lvis if metric == "lvis" else by_coco
            scores[kind] = _scores(compare(dataset, truth, results, kind), dataset.categories, bootstrap, seed)
    groups = FREQUENCIES if dataset.categories.frequency else ()
    names = (*_AP, *groups, "AR300" if metric == "lvis" else "AR100")
    num_objects = sum(not one["iscrowd"] for one in truth)
    return CocoReport(len(dataset), num_objects, len(results), scores, metric, names)


def _scores(comparison: Comparison, categories: Categories, samples: int, seed: int) -> KindScores:
    precision, recall = _curves(comparison)
    groups = _groups(categories)
    others: dict[str, Any] = {name: _mean(precision[:, :, members, 0]) for name, members in groups.items()}
    others["AR100" if comparison.not_exhaustive is None else "AR300"] = _mean(recall[..., 0])
    if samples:
        others |= _intervals(comparison, groups, samples, seed)
    return KindScores(
        AP=_mean(precision[..., 0]),
        AP50=_mean(precision[0, ..., 0]),
        AP75=_mean(precision[5, ..., 0]),
        APs=_mean(precision[..., 1]),
        APm=_mean(precision[..., 2]),
        APl=_mean(precision[..., 3]),
        AP_per_class={name: _mean(precision[:, :, i, 0]) for i, name in enumerate(categories.names)},
        **others,
    )


def _curves(comparison: Comparison) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (overlaps, recalls, classes, sizes) and recall (overlaps, classes, sizes)."""
    truth, found = FastCOCO(comparison.truth), FastCOCO(comparison.found)
    precision, recall = [], []
    for category_ids in comparison.classes():
        evaluator = COCOeval_faster(
            truth,
            found,
            comparison.kind,
            lvis_style=comparison.not_exhaustive is not None,
            print_function=_say_nothing,
            separate_eval=True,
        )
        evaluator.params.catIds = category_ids
        if comparison.max_instances is not None:
            evaluator.params.maxDets = [comparison.max_instances]
        evaluator.evaluate()
        evaluator.accumulate()
        precision.append(np.asarray(evaluator.eval["precision"])[..., -1])
        recall.append(np.asarray(evaluator.eval["recall"])[..., -1])
    return np.concatenate(precision, axis=2), np.concatenate(recall, axis=1)


def _intervals(
    comparison: Comparison, groups: Mapping[str, NDArray[np.bool_]], samples: int, seed: int
) -> dict[str, tuple[float, float] | None]:
    """The images are matched once, at all sizes together, and then resampled."""
    times = resampling.draws(len(comparison.truth["images"]), num_samples=samples, seed=seed)
    by_class = resampling.class_samples(_matches(comparison), times)
    everything = np.ones(by_class.shape[1], dtype=np.bool_)
    return {
        f"{name}_interval": resampling.percentile_interval(resampling.class_means(by_class[:, members]))
        for name, members in {"AP": everything, **groups}.items()
    }


def _matches(comparison: Comparison) -> list[resampling.ClassMatches]:
    """Of each class."""
    found: list[resampling.ClassMatches] = []
    num_images = len(comparison.truth["images"])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(_indexed(comparison.truth), _indexed(comparison.found), comparison.kind)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [comparison.max_instances or 100]
        for category_ids in comparison.classes():
            evaluator.params.catIds = category_ids
            evaluator.evaluate()
            if comparison.not_exhaustive is not None:
                _ignore_surplus(evaluator.evalImgs, comparison.not_exhaustive)
            found += [
                resampling.class_matches(evaluator.evalImgs[start : start + num_images], len(evaluator.params.iouThrs))
                for start in range(0, len(evaluator.evalImgs), num_images)
            ]
    return found


def _ignore_surplus(entries: Sequence[Any], not_exhaustive: Mapping[int, frozenset[int]]) -> None:
    """Mark in COCOeval's `evalImgs` what is too much of a class that is not exhaustively annotated."""
    for entry in entries:
        if entry is not None and entry["category_id"] in not_exhaustive[entry["image_id"]]:
            entry["dtIgnore"] = np.logical_or(entry["dtIgnore"], entry["dtMatches"] == 0)


def _groups(categories: Categories) -> dict[str, NDArray[np.bool_]]:
    """Which classes, bool (K,), each score by frequency is the mean of; none where no class has a frequency."""
    if not categories.frequency:
        return {}
    return {name: np.array(categories.frequency) == letter for name, letter in FREQUENCIES.items()}


def _indexed(structure: dict[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = structure
    coco.createIndex()
    return coco


def _without_masks(results: Sequence[Result]) -> bool:
    """Whether there are results and none has a mask."""
    return len(results) > 0 and not any("segmentation" in result for result in results)


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[values > UNDEFINED]
    return float(defined.mean()) if len(defined) else UNDEFINED


def _say_nothing(*_: Any, **__: Any) -> None:
    pass
