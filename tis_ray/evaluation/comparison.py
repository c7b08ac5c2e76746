"""What is there and what was found, as evaluation reads it: entries in COCO's form."""

from collections.abc import Mapping
from typing import Any

from pycocotools import mask as coco_mask

from tis_ray.formats import segmentation
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import GroundTruth

Result = Mapping[str, Any]


def held(dataset: GroundTruth) -> GroundTruth:
    """The same data set with its entries in memory, for whoever asks for them more than once."""
    if dataset.in_memory:
        return dataset
    entries = [entry for record in dataset.images for entry in dataset.entries(record.id)]
    return CocoDataset(dataset.path, dataset.images, dataset.categories, entries)


def annotations_of(dataset: GroundTruth, *, masks: bool) -> list[dict[str, Any]]:
    """All annotations in COCO's form, image by image; with `masks` each has its mask as a compressed RLE."""
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
