"""Results files with masks for the tests of this folder, written as any framework would."""

import json
import warnings
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 48, 64
CATEGORIES = [{"id": 4, "name": "car"}, {"id": 9, "name": "bus"}]


def write_data(folder: Path, ids=(5, 1, 3), **keys) -> Path:
    """A COCO JSON of images of 64 x 48 px and two categories."""
    images = [{"id": image_id, "height": HEIGHT, "width": WIDTH} for image_id in ids]
    return write(folder / "data.json", {"images": images, "categories": CATEGORIES, **keys})


def write(path: Path, content) -> Path:
    path.write_text(json.dumps(content))
    return path


def results_of(seed: int, ids=(5, 1, 3), count: int = 12) -> list[dict]:
    """Boxes with uneven masks in two classes, of distinct scores, around the same few places in every image."""
    rng = np.random.default_rng(seed)
    found = []
    for image_id in ids:
        for score in rng.permutation(np.arange(1, count + 1) / (count + 1) - seed / 1000).tolist():
            x, y = rng.choice([4, 30]) + rng.integers(0, 6), rng.choice([3, 22]) + rng.integers(0, 6)
            w, h = rng.integers(12, 24, 2)
            box = [int(x), int(y), int(min(w, WIDTH - x)), int(min(h, HEIGHT - y))]
            found.append(
                {
                    "image_id": image_id,
                    "category_id": int(rng.choice([4, 9])),
                    "bbox": box,
                    "score": round(score, 6),
                    "segmentation": rle_in(box, rng),
                }
            )
    return found


def rle_in(box: list[int], rng: np.random.Generator) -> dict:
    """A mask in its box (xywh), some pixels missing, as pycocotools writes it."""
    x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = rng.random((h, w)) < 0.8
    rle = coco_mask.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def dense(rle: dict) -> np.ndarray:
    """The mask's pixels, bool (height, width)."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # pycocotools' own
        return coco_mask.decode(rle).astype(bool)
