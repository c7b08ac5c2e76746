"""Objects that a data set lacks: what a teacher finds in training images where nothing is labelled (LVIS 2020).

They are not added to the labels, since the teacher may be wrong about what they are: training only takes care not to
learn from them that an object is background.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.unlabelled import Found
from tis_ray.ops import boxes as box_ops
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.ops.suppression import nms_keep

MIN_SCORE = 0.5
MAX_OVERLAP = 0.1
SAME_IOU = 0.5  # two boxes that overlap by more are of one object, whatever their classes


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing: boxes (U, 4) xyxy and scores of each image that has any, by id, and how many of which class."""

    found: dict[int, Found] = field(default_factory=dict)
    per_class: Counter[str] = field(default_factory=Counter)

    @property
    def num_boxes(self) -> int:
        """Of all images."""
        return self.per_class.total()


def find_missing(
    results: Iterable[Mapping[str, Any]],
    truth: GroundTruth,
    *,
    min_score: float = MIN_SCORE,
    max_overlap: float = MAX_OVERLAP,
    same_iou: float = SAME_IOU,
) -> Missing:
    """The boxes of `results` (checked, as `stream_results` gives them) that stand for objects without a label.

    Their score is at least `min_score`, and their IoU with every labelled object of the image below `max_overlap`; at 0
    they may not touch one. Of boxes that overlap each other by more than `same_iou` the best stays, whatever their
    classes. Crowds and regions to ignore are no labelled objects: what lies in them is no background as it is. Boxes
    are cut to their images.
    """
    seen: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        if result["score"] >= min_score:
            seen[result["image_id"]].append({key: result[key] for key in ("bbox", "score", "category_id")})
    names = dict(zip(truth.categories.ids, truth.categories.names, strict=True))
    missing = Missing()
    for record in truth.images:
        said = seen.get(record.id, [])
        boxes = _boxes([one["bbox"] for one in said], (record.height, record.width))
        labelled = [one["bbox"] for one in truth.entries(record.id) if not one.get("iscrowd")] if said else []
        labelled_boxes = _boxes(labelled, (record.height, record.width))
        overlaps = pairwise_iou(boxes, labelled_boxes)
        alone = ((overlaps < max_overlap) | (overlaps == 0)).all(axis=1)
        places = np.flatnonzero(alone & (box_ops.area(boxes) > 0))
        scores = np.array([said[i]["score"] for i in places], dtype=np.float32)
        kept = nms_keep(boxes[places], scores, np.zeros(len(places), np.int32), iou_threshold=same_iou)
        if len(kept):
            missing.found[record.id] = boxes[places[kept]], scores[kept].tolist()
            missing.per_class.update(names[said[i]["category_id"]] for i in places[kept])
    return missing


def _boxes(bboxes: list[Any], size_hw: tuple[int, int]) -> Boxes:
    """Float32 (N, 4) xyxy within an image, from COCO's form."""
    xywh: Any = np.array(bboxes, dtype=np.float64).reshape(-1, 4)
    return box_ops.clip(box_ops.xywh_to_xyxy(xywh).astype(np.float32), *size_hw)
