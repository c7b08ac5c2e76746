"""What was found beside what is there, and how far they overlap: worked out once, for all that explains errors.

Only pairs that overlap are kept, so that a data set of thousands of images is a few flat arrays. The overlaps are
COCO's to the last bit: IoU, and the share of the detection where the object is a crowd, a region to ignore among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.evaluation import federated
from tis_ray.evaluation.comparison import Result, annotations_of, ranked_by
from tis_ray.formats.dataset import GroundTruth, is_federated
from tis_ray.ops import rle
from tis_ray.ops.run_algebra import areas as pixels_of
from tis_ray.ops.run_algebra import pairwise_shared
from tis_ray.ops.runs import Runs

Kind = Literal["bbox", "segm"]
Metric = Literal["coco", "lvis"]

MAX_INSTANCES = 100
LEAST = 0.1  # of a detection's area; what overlaps less is no pair. No threshold of this package is lower.
_KEPT = LEAST - 1e-9  # an overlap of exactly `LEAST` is one in spite of rounding


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """N detections and M objects of I images, and P pairs of them.

    kind:           `bbox` or `segm`, by what they overlap
    max_instances:  so many of an image and class count for precision, COCO's 100; None where all do, as LVIS has it
    image_ids:      int64 (I,) rising
    offsets:        int64 (I + 1,) the detections of image i are `offsets[i]:offsets[i + 1]`: by descending score, equal
                    ones by class and then in the order of the results
    rows:           int64 (N,) the position of each in the results
    scores, areas:  float64 (N,) what it is ranked by; px of its box or of its mask
    labels:         int32 (N,) contiguous from 0
    surplus:        bool (N,) where it finds nothing it is not wrong: nobody looked for every object of its class (LVIS)
    object_offsets: int64 (I + 1,) likewise the objects, by class and then in the data set's order
    object_rows:    int64 (M,) the position of each in `comparison.annotations_of(dataset)`
    object_labels:  int32 (M,)
    object_areas:   float64 (M,) px, as annotated
    crowd:          bool (M,) no object but a region of many or to ignore, once for each class that it holds for
    pair_offsets:   int64 (N + 1,) the pairs of detection d are `pair_offsets[d]:pair_offsets[d + 1]`, objects rising
    objects:        int64 (P,) the object of each pair
    ious:           float64 (P,) COCO's overlap: IoU, of a crowd the share of the detection that lies on it
    shares:         float64 (P,) the share of the detection that lies on the object
    """

    kind: Kind
    max_instances: int | None
    image_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]
    labels: NDArray[np.int32]
    surplus: NDArray[np.bool_]
    object_offsets: NDArray[np.int64]
    object_rows: NDArray[np.int64]
    object_labels: NDArray[np.int32]
    object_areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    pair_offsets: NDArray[np.int64]
    objects: NDArray[np.int64]
    ious: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def detections(self) -> NDArray[np.int64]:
        """The detection of each pair, (P,) rising."""
        return np.repeat(np.arange(len(self.rows)), np.diff(self.pair_offsets))

    @property
    def images(self) -> NDArray[np.int64]:
        """The index of each detection's image, (N,) rising."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.offsets))

    @property
    def object_images(self) -> NDArray[np.int64]:
        """The index of each object's image, (M,) rising."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.object_offsets))


def overlaps(
    dataset: GroundTruth, results: Sequence[Result], *, kind: Kind = "segm", metric: Metric | None = None
) -> Overlaps:
    """The overlaps of COCO results (see `tis_ray.formats.coco_results`) with the objects of a data set.

    metric: by whose rules, `coco` or `lvis`; by default LVIS's where any image says which classes were looked for. By
            them results that nobody can judge are left out, as `federated.counted` says.

    A result without a mask has no pixel where `kind` is `segm`, and overlaps nothing. Raises `InputError` for another
    kind.
    """
    if kind not in ("bbox", "segm"):
        raise InputError(f"kind: expected bbox or segm; got {kind!r}")
    by_lvis = metric == "lvis" or (metric is None and is_federated(dataset))
    truth = annotations_of(dataset, masks=kind == "segm")
    scores = np.array([ranked_by(result, kind) for result in results], dtype=np.float64)
    found, there = _columns(dataset, results), _columns(dataset, truth)
    rows = np.lexsort((found.labels, -scores, found.images))
    if by_lvis:
        rows = rows[federated.counted(dataset, truth, results, scores.tolist())[rows]]
    object_rows = np.lexsort((there.labels, there.images))
    crowd = np.array([bool(one["iscrowd"]) for one in truth], dtype=np.bool_)[object_rows]
    ends = np.arange(len(dataset) + 1)
    offsets = np.searchsorted(found.images[rows], ends)
    object_offsets = np.searchsorted(there.images[object_rows], ends)
    if kind == "bbox":
        boxes = found.boxes[rows]
        areas = boxes[:, 2] * boxes[:, 3]
        pairs = _box_pairs(boxes, there.boxes[object_rows], offsets, object_offsets, crowd, _KEPT)
    else:
        masks = [results[i].get("segmentation") for i in rows.tolist()]
        object_masks = [truth[i]["segmentation"] for i in object_rows.tolist()]
        areas, *pairs = _mask_pairs(dataset, masks, object_masks, offsets, object_offsets, crowd)
    return Overlaps(
        kind,
        None if by_lvis else MAX_INSTANCES,
        np.array([record.id for record in dataset.images], dtype=np.int64),
        offsets,
        rows,
        scores[rows],
        areas,
        found.labels[rows],
        _surplus(dataset, found.images[rows], found.labels[rows], by_lvis),
        object_offsets,
        object_rows,
        there.labels[object_rows],
        np.array([one["area"] for one in truth], dtype=np.float64)[object_rows],
        crowd,
        *pairs,
    )


class _Columns(NamedTuple):
    images: NDArray[np.int64]  # (N,) positions in the data set
    labels: NDArray[np.int32]  # (N,)
    boxes: NDArray[np.float64]  # (N, 4) xywh


def _columns(dataset: GroundTruth, entries: Sequence[Result]) -> _Columns:
    places = {record.id: i for i, record in enumerate(dataset.images)}
    label_of = {category_id: label for label, category_id in enumerate(dataset.categories.ids)}
    return _Columns(
        np.array([places[one["image_id"]] for one in entries], dtype=np.int64),
        np.array([label_of[one["category_id"]] for one in entries], dtype=np.int32),
        np.array([one["bbox"] for one in entries], dtype=np.float64).reshape(-1, 4),
    )


def _surplus(
    dataset: GroundTruth, images: NDArray[np.int64], labels: NDArray[np.int32], by_lvis: bool
) -> NDArray[np.bool_]:
    loose = federated.not_exhaustive(dataset) if by_lvis else {}
    if not any(loose.values()):
        return np.zeros(len(labels), dtype=np.bool_)
    ids = [dataset.categories.ids[label] for label in labels.tolist()]
    of_image = [loose[dataset.images[image].id] for image in images.tolist()]
    return np.array([id_ in some for id_, some in zip(ids, of_image, strict=True)], dtype=np.bool_)


def _mask_pairs(
    dataset: GroundTruth,
    masks: Sequence[rle.Rle | None],
    object_masks: Sequence[rle.Rle],
    offsets: NDArray[np.int64],
    object_offsets: NDArray[np.int64],
    crowd: NDArray[np.bool_],
) -> tuple[NDArray[Any], ...]:
    """The areas of all detections, and the pairs as `Overlaps` has them, image by image."""
    areas, counts = np.zeros(len(masks)), np.zeros(len(masks), dtype=np.int64)
    parts = [(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))]
    for i, record in enumerate(dataset.images):
        mine, theirs = slice(offsets[i], offsets[i + 1]), slice(object_offsets[i], object_offsets[i + 1])
        found = runs_of(masks[mine], record.height, record.width)
        areas[mine] = pixels_of(found)
        if mine.start == mine.stop or theirs.start == theirs.stop:
            continue
        there = runs_of(object_masks[theirs], record.height, record.width)
        shared = pairwise_shared(found, there)
        own = np.maximum(areas[mine], 1)[:, None]
        shares = shared / own
        ious = np.where(crowd[theirs], shares, shared / np.maximum(own + pixels_of(there) - shared, 1))
        detections, objects = np.nonzero(shares >= _KEPT)
        counts[mine] = np.bincount(detections, minlength=len(found))
        parts.append((objects + theirs.start, ious[detections, objects], shares[detections, objects]))
    objects, ious, shares = (np.concatenate(column) for column in zip(*parts, strict=True))
    return areas, np.concatenate([[0], np.cumsum(counts)]), objects, ious, shares


def runs_of(masks: Sequence[rle.Rle | None], height: int, width: int) -> Runs:
    """Masks of one image as runs, without pixels where there is no mask."""
    present = [one for one in masks if one is not None]
    runs = rle.to_runs(present, height, width)
    if len(present) == len(masks):
        return runs
    lengths = np.zeros(len(masks), dtype=np.int64)
    lengths[[one is not None for one in masks]] = np.diff(runs.offsets)
    return Runs(height, width, runs.spans, np.concatenate([[0], np.cumsum(lengths)]))


@njit(cache=True)
def _box_pairs(boxes, there, offsets, object_offsets, crowd, least):  # type: ignore[no-untyped-def]
    """The pairs of boxes xywh as `Overlaps` has them, in the arithmetic of pycocotools."""
    pair_offsets = np.zeros(len(boxes) + 1, dtype=np.int64)
    objects, ious, shares = np.empty(16, np.int64), np.empty(16), np.empty(16)
    n = 0
    for image in range(len(offsets) - 1):
        for d in range(offsets[image], offsets[image + 1]):
            area = boxes[d, 2] * boxes[d, 3]
            for g in range(object_offsets[image], object_offsets[image + 1]):
                width = min(boxes[d, 0] + boxes[d, 2], there[g, 0] + there[g, 2]) - max(boxes[d, 0], there[g, 0])
                height = min(boxes[d, 1] + boxes[d, 3], there[g, 1] + there[g, 3]) - max(boxes[d, 1], there[g, 1])
                shared = max(width, 0.0) * max(height, 0.0)
                if shared <= 0 or shared / area < least:
                    continue
                if n == len(objects):
                    objects, ious, shares = _doubled(objects), _doubled(ious), _doubled(shares)
                objects[n], shares[n] = g, shared / area
                ious[n] = shares[n] if crowd[g] else shared / (area + there[g, 2] * there[g, 3] - shared)
                n += 1
            pair_offsets[d + 1] = n
    return pair_offsets, objects[:n].copy(), ious[:n].copy(), shares[:n].copy()


@njit(cache=True)
def _doubled(values):  # type: ignore[no-untyped-def]
    larger = np.empty(2 * len(values), values.dtype)
    larger[: len(values)] = values
    return larger
