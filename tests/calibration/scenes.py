"""Ensembles, pictures and results to calibrate on, for the tests of this folder."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.tiny import CATEGORIES, save_tiny_checkpoint
from tis_ray.instances import Annotations, Instances
from tis_ray.masks import CropMasks

ENSEMBLE = """\
# Two members.
members:
  one: {checkpoint: one, scales: [64, 96]}   # mirrored too
  two: {checkpoint: two, scales: [64], flip: false}
fusion:
  # The papers' first step.
  rules:
    - nms: {iou_threshold: 0.5}
  top_k: 7

# Nobody else may ask.
auth: none
"""


def truth_of(boxes, labels, crowd=None) -> Annotations:
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    masks = CropMasks(np.zeros((len(boxes), 2), dtype=np.int32), (np.ones((1, 1), dtype=np.uint8),) * len(boxes))
    no_crowd = np.zeros(len(boxes), dtype=np.bool_)
    return Annotations(
        boxes, np.asarray(labels, dtype=np.int32), masks, no_crowd if crowd is None else np.asarray(crowd)
    )


def random_image(seed: int, *, hit_rate=lambda scores: scores, count: int = 40, num_classes: int = 2):
    """Ground truth, and detections that are hits as often as `hit_rate` of their scores says."""
    rng = np.random.default_rng(seed)
    corners = np.stack([np.arange(count) * 20, np.zeros(count)], axis=1)
    boxes = np.concatenate([corners, corners + 10], axis=1)
    scores, labels = rng.uniform(0.01, 0.99, count), rng.integers(0, num_classes, count)
    hits = rng.random(count) < hit_rate(scores)
    return truth_of(boxes[hits], labels[hits]), Instances.of(boxes, scores, labels)


def write_folder(folder: Path, *, num_images: int = 3) -> Path:
    """An ensemble of two untrained members, and a data set in which they find what they find by chance."""
    import tis_ray

    for seed, name in enumerate(["one", "two"]):
        save_tiny_checkpoint(folder / name, seed=seed)
    ensemble = folder / "ensemble.yaml"
    ensemble.write_text(ENSEMBLE)
    predictor, rng = tis_ray.load(ensemble), np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, num_images + 1):
        pixels = rng.integers(0, 256, (80, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 80, "width": 112})
        for found in predictor.predict_views(pixels).values():
            for (x1, y1, x2, y2), label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True):
                if rng.random() < 0.3:
                    entry = {"id": len(annotations) + 1, "image_id": number, "category_id": CATEGORIES.ids[label]}
                    annotations.append(entry | {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0, "area": 1})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES.to_json()}
    (folder / "gt.json").write_text(json.dumps(content))
    return ensemble
