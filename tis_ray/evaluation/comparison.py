"""What was found beside what is there, in the structures that COCO's evaluators read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask

from tis_ray.evaluation import federated
from tis_ray.formats import segmentation
from tis_ray.formats.dataset import GroundTruth
from tis_ray.ops import rle as rle_ops

PAIRS_AT_ONCE = 1_000_000  # of a class and an image; evaluators hold something for each, also where there is nothing

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Ground truth and results of one kind, `bbox` or `segm`.

    truth, found:   COCO's structures of them
    max_instances:  so many of an image and class count; None for the evaluator's own numbers
    not_exhaustive: for each image the category ids of which perhaps not every object is annotated; None where results
                    count by COCO's rules
    """

    kind: str
    truth: dict[str, Any]
    found: dict[str, Any]
    max_instances: int | None = None
    not_exhaustive: Mapping[int, frozenset[int]] | None = None

    def classes(self) -> Iterator[list[int]]:
        """The category ids, in order, some at a time: a thousand classes in all images would fill the memory."""
        ids = [category["id"] for category in self.truth["categories"]]
        step = max(PAIRS_AT_ONCE // len(self.truth["images"]), 1)
        for start in range(0, len(ids), step):
            yield ids[start : start + step]


def by_coco(dataset: GroundTruth, truth: Sequence[Result], results: Sequence[Result], kind: str) -> Comparison:
    """`truth` is what `annotations_of` answers; every result counts that COCO's evaluators count."""
    frame = _frame(dataset)
    return Comparison(kind, frame | _numbered(truth, kind), frame | _detections(dataset, results, kind))


def by_lvis(dataset: GroundTruth, truth: Sequence[Result], results: Sequence[Result], kind: str) -> Comparison:
    """The same for what counts in a federated data set; an image without lists is annotated to the last object."""
    counts = federated.counted(dataset, truth, results, [ranked_by(result, kind) for result in results])
    results = [result for result, counted in zip(results, counts, strict=True) if counted]
    frame, loose = _frame(dataset), federated.not_exhaustive(dataset)
    everything = frozenset(dataset.categories.ids)  # what remains is to be dropped nowhere
    for image in frame["images"]:
        image |= {"neg_category_ids": everything, "not_exhaustive_category_ids": loose[image["id"]]}
    found = frame | _detections(dataset, results, kind)
    return Comparison(kind, frame | _numbered(truth, kind), found, federated.MAX_INSTANCES, loose)


def annotations_of(dataset: GroundTruth, *, masks: bool) -> list[dict[str, Any]]:
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


def ranked_by(result: Result, kind: str) -> float:
    """The score of a result's box, or of its mask where that has one of its own."""
    own = result.get("mask_score") if kind == "segm" else None
    return float(result["score"] if own is None else own)


def _numbered(truth: Sequence[Result], kind: str) -> dict[str, Any]:
    """Annotations numbered from 1: COCO's matching takes an id of 0 for 'not matched'."""
    annotations = [
        {key: value for key, value in one.items() if kind == "segm" or key != "segmentation"} | {"id": number}
        for number, one in enumerate(truth, start=1)
    ]
    return {"annotations": annotations}


def _detections(dataset: GroundTruth, results: Sequence[Result], kind: str) -> dict[str, Any]:
    """The area of a found mask is that of its pixels, not of its box as in COCO's own loader."""
    annotations: list[dict[str, Any]] = []
    sizes_hw = {record.id: (record.height, record.width) for record in dataset.images}
    for result in results:
        annotation = {key: result[key] for key in ("image_id", "category_id", "bbox")}
        annotation["score"] = ranked_by(result, kind)
        if kind == "segm":
            height, width = sizes_hw[result["image_id"]]
            rle = result.get("segmentation") or rle_ops.from_counts([height * width], height, width)
            annotation["segmentation"] = rle
            area = float(coco_mask.area(rle))
        else:
            area = result["bbox"][2] * result["bbox"][3]
        annotations.append(annotation | {"id": len(annotations) + 1, "area": area, "iscrowd": 0})
    return {"annotations": annotations}


def _frame(dataset: GroundTruth) -> dict[str, Any]:
    """Images and categories; how frequent these are is for an evaluator that asks and is not used."""
    images = [{"id": record.id, "height": record.height, "width": record.width} for record in dataset.images]
    names = zip(dataset.categories.ids, dataset.categories.names, strict=True)
    return {"images": images, "categories": [{"id": id_, "name": name, "frequency": "f"} for id_, name in names]}
