"""A data set of a few pictures with objects of known places, and what two detectors of different skill find in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tis_ray.formats import coco, segmentation
from tis_ray.formats.coco import CocoDataset

SIZE_HW = (120, 160)
CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 5, "name": "bus", "supercategory": "vehicle"},
    {"id": 7, "name": "person", "supercategory": "human"},
    {"id": 9, "name": "tram", "supercategory": "vehicle"},
]


def write_street(folder: Path, *, num_images: int = 8, objects: int = 4, categories: Any = CATEGORIES) -> CocoDataset:
    """Boxes of 5 to 60 px with a crowd in the first picture; the last class has no object."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, num_images + 1):
        name = f"{number}.png"
        Image.fromarray(rng.integers(0, 90, (*SIZE_HW, 3), dtype=np.uint8)).save(folder / name)
        images.append({"id": number, "file_name": name, "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for place in range(objects):
            w, h = (5, 6) if place == 0 else rng.integers(12, 60, 2).tolist()
            x, y = int(rng.integers(0, SIZE_HW[1] - w)), int(rng.integers(0, SIZE_HW[0] - h))
            annotations.append(
                _entry(len(annotations) + 1, number, int(rng.choice([3, 5, 7])), [x, y, w, h], crowd=False)
            )
    if objects:
        annotations.append(_entry(len(annotations) + 1, 1, 3, [100, 0, 60, 20], crowd=True))
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return coco.read(path)


def found_in(dataset: CocoDataset, *, off_px: int = 0, missed: float = 0.2, seed: int = 0) -> list[dict[str, Any]]:
    """Objects moved by up to `off_px`, some left out, some of the wrong class, and one false box in each image."""
    rng = np.random.default_rng(seed)
    results = []
    for record in dataset.images:
        for entry in dataset.entries(record.id):
            if entry["iscrowd"] or rng.random() < missed:
                continue
            x, y, w, h = entry["bbox"]
            dx, dy = rng.integers(-off_px, off_px + 1, 2).tolist()
            wrong = rng.random() < 0.1
            results.append(
                _result(record.id, 9 if wrong else entry["category_id"], [x + dx, y + dy, w, h], rng.uniform(0.4, 1))
            )
        results.append(_result(record.id, 7, [2, 2, 9, 9], rng.uniform(0.05, 0.6)))
    return results


def _result(image_id: int, category_id: int, bbox: list[int], score: float) -> dict[str, Any]:
    x, y, w, h = bbox
    x, y = min(max(x, 0), SIZE_HW[1] - w), min(max(y, 0), SIZE_HW[0] - h)
    result = {"image_id": image_id, "category_id": category_id, "bbox": [x, y, w, h], "score": round(score, 3)}
    return {**result, "segmentation": segmentation.to_rle([_outline(x, y, w, h)], result["bbox"], *SIZE_HW)}


def _entry(number: int, image_id: int, category_id: int, bbox: list[int], *, crowd: bool) -> dict[str, Any]:
    x, y, w, h = bbox
    entry = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, "area": w * h}
    counts = [
        y + x * SIZE_HW[0],
        *[h, SIZE_HW[0] - h] * (w - 1),
        h,
        SIZE_HW[0] - h - y + (SIZE_HW[1] - x - w) * SIZE_HW[0],
    ]
    mask = {"size": list(SIZE_HW), "counts": counts} if crowd else [_outline(x, y, w, h)]
    return {**entry, "iscrowd": int(crowd), "segmentation": mask}


def _outline(x: int, y: int, w: int, h: int) -> list[int]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]
