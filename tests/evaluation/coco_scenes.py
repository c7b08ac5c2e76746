"""Random scenes in COCO's form with what a mediocre detector finds there, and pycocotools on them."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tis_ray.formats import coco

CATEGORIES = [
    {"id": 2, "name": "car", "supercategory": "vehicle"},
    {"id": 3, "name": "bus", "supercategory": "vehicle"},
    {"id": 5, "name": "person", "supercategory": "human"},
    {"id": 9, "name": "nothing", "supercategory": "human"},
]
HEIGHT, WIDTH = 120, 160


def scene(seed: int, *, images: int = 6, objects: int = 8) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth of three classes, crowds among it, and results: shifted objects, some of another class, and noise.

    All is on whole pixels and scores are coarse, so that overlaps and scores tie.
    """
    rng = np.random.default_rng(seed)
    records = [{"id": 3 * i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(images)]
    annotations, results = [], []
    for record in records:
        for _ in range(objects):
            side = rng.choice([4, 10, 30, 100])
            box = _box(rng, side * rng.uniform(0.6, 1, 2))
            one = {"image_id": record["id"], "category_id": int(rng.choice([2, 3, 5])), "bbox": box}
            more = {"id": len(annotations), "area": float(0.9 * box[2] * box[3]), "iscrowd": int(rng.random() < 0.15)}
            annotations.append(one | more | {"segmentation": _mask(box)})
            for _ in range(rng.integers(0, 4)):
                shift = rng.integers(-2, 3, 4) if side > 4 else rng.integers(-1, 2, 4)
                near = (np.array(box) + shift).clip(0, [WIDTH - 3, HEIGHT - 3, WIDTH, HEIGHT])
                near[2:] = np.minimum(near[2:].clip(1), [WIDTH - near[0], HEIGHT - near[1]])
                results.append(_result(rng, one, near.tolist()))
        results += [_result(rng, annotations[-1], _box(rng, rng.uniform(2, 60, 2))) for _ in range(4)]
    return {"images": records, "annotations": annotations, "categories": CATEGORIES}, results


def read(folder: Path, content: dict[str, Any]) -> coco.CocoDataset:
    """The data set of a scene."""
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return coco.read(path)


def evaluator(content: dict[str, Any], results: list[dict[str, Any]], kind: str, **params: Any) -> COCOeval:
    """COCOeval, run and accumulated with these parameters; annotations are numbered anew, as 0 means not matched."""
    content = copy.deepcopy(content)
    for number, one in enumerate(content["annotations"], start=1):
        one["id"] = number
    found = copy.deepcopy(results)
    for number, one in enumerate(found, start=1):
        area = coco_mask.area(one["segmentation"]) if kind == "segm" else one["bbox"][2] * one["bbox"][3]
        one |= {"id": number, "area": float(area), "iscrowd": 0}
    with contextlib.redirect_stdout(io.StringIO()):
        structures = [COCO(), COCO()]
        for structure, entries in zip(structures, (content["annotations"], found), strict=True):
            structure.dataset = content | {"annotations": entries}
            structure.createIndex()
        made = COCOeval(*structures, kind)
        for name, value in params.items():
            setattr(made.params, name, value)
        made.params.areaRngLbl = [str(i) for i in range(len(made.params.areaRng))]
        made.evaluate()
        made.accumulate()
    return made


def _box(rng: np.random.Generator, sides: Any) -> list[int]:
    width, height = np.maximum(np.rint(sides), 1).astype(int).tolist()
    return [int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height)), width, height]


def _mask(box: list[int]) -> dict[str, Any]:
    """The box without a corner, where it has a pixel to spare."""
    x, y, w, h = (int(number) for number in box)
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    pixels[y : y + h, x : x + w] = 1
    pixels[y : y + h // 3, x : x + w // 3] = 0
    rle = coco_mask.encode(pixels)
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def _result(rng: np.random.Generator, near: dict[str, Any], box: list[int]) -> dict[str, Any]:
    category_id = int(rng.choice([2, 3, 5, 9])) if rng.random() < 0.3 else near["category_id"]
    found = {"image_id": near["image_id"], "category_id": category_id, "bbox": box, "segmentation": _mask(box)}
    return found | {"score": float(rng.integers(1, 21) / 20)}
