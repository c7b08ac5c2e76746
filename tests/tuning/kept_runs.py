"""Batch runs with kept views for the tests of this folder, made of ground truth without a model: what views find is
the truth moved about, more by some than by others."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tis_ray.config import Ensemble, parse
from tis_ray.formats import coco
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.image_list import ListedImage
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import RunFolder, create
from tis_ray.runs.records import ImageOutcome, ImageViews
from tis_ray.views import View

CATEGORIES = Categories(ids=(3, 7), names=("car", "person"), counts=(90, 12))
SIZE_HW = (120, 160)
PATCH = 7


@dataclass(frozen=True)
class Skill:
    """How well a view finds: px that edges are off by, the share of objects found, misses an image, its scores."""

    jitter_px: float = 1.0
    recall: float = 0.9
    misses: int = 1
    hit_score: float = 0.8
    miss_score: float = 0.3


def ensemble_of(members: dict[str, dict], fusion: object = "tis") -> Ensemble:
    """Members by name, whose checkpoints are nowhere."""
    content = {name: {"checkpoint": f"/nowhere/{name}", **views} for name, views in members.items()}
    return parse(Ensemble, {"members": content, "fusion": fusion}, source="test")


def write_truth(path: Path, *, num_images: int, seed: int = 0) -> CocoDataset:
    """Objects of two classes, of 6 to 40 px, with masks that are ellipses in their boxes."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for _ in range(rng.integers(3, 7)):
            w, h = rng.integers(6, 40, 2).tolist()
            x, y = int(rng.integers(0, SIZE_HW[1] - w)), int(rng.integers(0, SIZE_HW[0] - h))
            turn = np.linspace(0, 2 * np.pi, 17)[:-1]
            outline = np.stack([x + w / 2 * (1 + np.cos(turn)), y + h / 2 * (1 + np.sin(turn))], axis=1)
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(rng.choice([3, 7]))}
            shape = {
                "bbox": [x, y, w, h],
                "segmentation": [outline.ravel().tolist()],
                "area": w * h * 0.78,
                "iscrowd": 0,
            }
            annotations.append(entry | shape)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES.to_json()}
    path.write_text(json.dumps(content))
    return coco.read(path)


def write_run(
    folder: Path,
    ensemble: Ensemble,
    truth: CocoDataset,
    skill: Callable[[View], Skill] = lambda view: Skill(),
    *,
    masks: bool = True,
    images_per_shard: int = 3,
    seed: int = 0,
) -> RunFolder:
    """A finished run: what its views found, and what the ensemble fused of that."""
    listed = [ListedImage(one.id, one.file_name, one.path, (one.height, one.width)) for one in truth.images]
    run = create(
        folder,
        {"made": "for a test", "seed": seed},
        ensemble=ensemble,
        categories=CATEGORIES,
        images=listed,
        images_per_shard=images_per_shard,
        keeps_views=True,
    )
    fuser = Fuser(ensemble.fusion, CATEGORIES, sizes={})
    for number in range(run.num_shards):
        outcomes, kept = [], []
        for image in run.images_of(number):
            found = {
                view: _found(truth, image.id, skill(view), [seed, image.id, place], masks=masks)
                for place, view in enumerate(ensemble.views)
            }
            fused = fuser.fuse(found, image_hw=SIZE_HW, sources=ensemble.views)
            outcomes.append(ImageOutcome(image.id, image.file_name, SIZE_HW, "ok", fused))
            kept.append(ImageViews(image.id, SIZE_HW, found))
        run.write(number, outcomes, kept)
    return run


def _found(truth: CocoDataset, image_id: int, skill: Skill, seed: list[int], *, masks: bool) -> Instances:
    rng = np.random.default_rng(seed)
    objects = truth.annotations(image_id)
    seen = rng.random(len(objects)) < skill.recall
    hits = objects.boxes[seen] + rng.normal(0, skill.jitter_px, (int(seen.sum()), 4))
    corners = rng.uniform(0, [SIZE_HW[1] - 30, SIZE_HW[0] - 30], (skill.misses, 2))
    misses = np.concatenate([corners, corners + rng.uniform(6, 30, (skill.misses, 2))], axis=1)
    boxes = np.concatenate([hits, misses])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels = np.concatenate([objects.labels[seen], rng.integers(0, 2, skill.misses)])
    centres = np.repeat([skill.hit_score, skill.miss_score], [len(hits), skill.misses])
    scores = np.clip(centres + rng.normal(0, 0.1, len(boxes)), 0.01, 0.99)
    order = np.argsort(-scores)
    boxes = boxes[order].astype(np.float32)
    away = (np.arange(PATCH) + 0.5) / PATCH * 2 - 1
    ellipse = (away**2 + away[:, None] ** 2 <= 1).astype(np.float16)
    patches = BoxMasks(boxes, np.repeat(ellipse[None], len(boxes), axis=0)) if masks else None
    return Instances.of(boxes, scores[order], labels[order], patches)
