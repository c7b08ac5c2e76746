"""COCO's metric: average precision of boxes and masks, by size and by class, with bootstrap intervals.

Scores come from faster-coco-eval, which agrees with pycocotools to the last bits; the matches that the bootstrap
resamples come from pycocotools, which shows them.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tis_ray.errors import InputError
from tis_ray.evaluation import bootstrap as resampling
from tis_ray.formats import segmentation
from tis_ray.formats.dataset import GroundTruth
from tis_ray.ops import rle as rle_ops

KINDS = ("bbox", "segm")
UNDEFINED = -1.0  # COCO's value for a score that has no object to be computed from

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KindScores:
    """Scores of boxes or of masks by COCO's names, 0..1, or -1 where there is nothing to compute one from.

    AP is the mean over the overlaps 0.50:0.95; s, m and l are objects below 32 px, below 96 px and above (the
    root of their area); AR100 is the recall with 100 instances an image. `AP_interval` is the 95% bootstrap
    interval of AP, None where none was asked for or possible; `AP_per_class` has each class of the data set.
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


@dataclass(frozen=True, slots=True)
class CocoReport:
    """The scores of one set of results; `report["bbox"].AP`, `report["segm"].APs`, ... Crowds are no objects."""

    num_images: int
    num_objects: int
    num_results: int
    scores: Mapping[str, KindScores]

    def __getitem__(self, kind: str) -> KindScores:
        return self.scores[kind]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; undefined scores stay -1, as COCO has them."""
        return {
            "num_images": self.num_images,
            "num_objects": self.num_objects,
            "num_results": self.num_results,
            **{kind: asdict(scores) for kind, scores in self.scores.items()},
        }


def evaluate(
    dataset: GroundTruth,
    results: Sequence[Result],
    *,
    kinds: Sequence[str] = KINDS,
    bootstrap: int = 0,
    seed: int = 0,
) -> CocoReport:
    """Score COCO results (see `tis_ray.formats.coco_results`) against a data set.

    Images without results count, classes without objects do not; what is found within a crowd, a region to ignore
    among them, is neither right nor wrong. Sizes are judged by the annotation's `area` and, for what was found, by the
    area of the box or of the mask itself. Where results hold no masks at all, the scores of "segm" are undefined; where
    some have none, those have found no pixel. Boxes are ranked by `score`, masks by `mask_score` where there is one.
    `bootstrap` is the number of times the images are drawn anew for the interval of AP; one `seed` draws the same
    images for every set of results, which makes them comparable.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"kinds: expected some of {', '.join(KINDS)}; got {kind!r}")
    truth = _annotations(dataset, masks="segm" in kinds)
    scores = {kind: _evaluate_kind(dataset, truth, results, kind, bootstrap, seed) for kind in kinds}
    num_objects = sum(not one["iscrowd"] for one in truth)
    return CocoReport(len(dataset), num_objects, len(results), scores)


def _evaluate_kind(
    dataset: GroundTruth, truth: Sequence[Result], results: Sequence[Result], kind: str, samples: int, seed: int
) -> KindScores:
    names = dataset.categories.names
    if len(dataset) == 0 or len(names) == 0 or (kind == "segm" and _without_masks(results)):
        return KindScores(AP_per_class=dict.fromkeys(names, UNDEFINED))
    evaluator = COCOeval_faster(
        FastCOCO(_ground_truth(dataset, truth, kind)),
        FastCOCO(_detections(dataset, results, kind)),
        kind,
        print_function=_say_nothing,
        separate_eval=True,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])[..., -1]  # overlaps, recalls, classes, areas
    recall = np.asarray(evaluator.eval["recall"])[..., -1]  # overlaps, classes, areas
    return KindScores(
        AP=_mean(precision[..., 0]),
        AP50=_mean(precision[0, ..., 0]),
        AP75=_mean(precision[5, ..., 0]),
        APs=_mean(precision[..., 1]),
        APm=_mean(precision[..., 2]),
        APl=_mean(precision[..., 3]),
        AR100=_mean(recall[..., 0]),
        AP_interval=_interval(dataset, truth, results, kind, samples, seed) if samples else None,
        AP_per_class={name: _mean(precision[:, :, i, 0]) for i, name in enumerate(names)},
    )


def _interval(
    dataset: GroundTruth, truth: Sequence[Result], results: Sequence[Result], kind: str, samples: int, seed: int
) -> tuple[float, float] | None:
    """The images of all classes are matched once, at all sizes together, and then resampled."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(
            _indexed(_ground_truth(dataset, truth, kind)), _indexed(_detections(dataset, results, kind)), kind
        )
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
    num_images, num_thresholds = len(dataset), len(evaluator.params.iouThrs)
    classes = [
        resampling.class_matches(evaluator.evalImgs[start : start + num_images], num_thresholds)
        for start in range(0, len(evaluator.evalImgs), num_images)
    ]
    present = [matches for matches in classes if matches.positives.any()]
    times = resampling.draws(num_images, num_samples=samples, seed=seed)
    return resampling.percentile_interval(resampling.ap_samples(present, times))


def _annotations(dataset: GroundTruth, *, masks: bool) -> list[dict[str, Any]]:
    """All annotations, asked for once: a data set may decode them each time."""
    annotations = []
    for record in dataset.images:
        for entry in dataset.entries(record.id):
            annotation = {key: entry[key] for key in ("image_id", "category_id", "bbox")}
            rle = None
            if masks or "area" not in entry:
                rle = segmentation.to_rle(entry.get("segmentation"), entry["bbox"], record.height, record.width)
            area = entry["area"] if "area" in entry else float(coco_mask.area(rle))
            annotation |= {"area": area, "iscrowd": entry.get("iscrowd", 0)}
            annotations.append(annotation | ({"segmentation": rle} if masks else {}))
    return annotations


def _ground_truth(dataset: GroundTruth, truth: Sequence[Result], kind: str) -> dict[str, Any]:
    """COCO's structure with annotations numbered from 1: its matching takes an id of 0 for 'not matched'."""
    annotations = [
        {key: value for key, value in one.items() if kind == "segm" or key != "segmentation"} | {"id": number}
        for number, one in enumerate(truth, start=1)
    ]
    return _structure(dataset, annotations)


def _detections(dataset: GroundTruth, results: Sequence[Result], kind: str) -> dict[str, Any]:
    """The area of a found mask is that of its pixels, not of its box as in COCO's own loader."""
    annotations: list[dict[str, Any]] = []
    sizes_hw = {record.id: (record.height, record.width) for record in dataset.images}
    for result in results:
        annotation = {key: result[key] for key in ("image_id", "category_id", "bbox", "score")}
        if kind == "segm":
            height, width = sizes_hw[result["image_id"]]
            rle = result.get("segmentation") or rle_ops.from_counts([height * width], height, width)
            annotation["segmentation"] = rle
            if result.get("mask_score") is not None:
                annotation["score"] = result["mask_score"]
            area = float(coco_mask.area(rle))
        else:
            area = result["bbox"][2] * result["bbox"][3]
        annotations.append(annotation | {"id": len(annotations) + 1, "area": area, "iscrowd": 0})
    return _structure(dataset, annotations)


def _structure(dataset: GroundTruth, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    images = [{"id": record.id, "height": record.height, "width": record.width} for record in dataset.images]
    categories = [
        {"id": id_, "name": name} for id_, name in zip(dataset.categories.ids, dataset.categories.names, strict=True)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


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
