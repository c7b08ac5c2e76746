"""Long-tail scenes that are labelled in part, scenes that are not labelled, and what a teacher makes of both.

Truth that was taken away is kept aside: it says how much of what a teacher finds is there.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.data.scenes import write_scenes
from tis_ray.formats import coco
from tis_ray.formats.coco_results import ResultsWriter, to_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.images import open_image
from tis_ray.formats.unlabelled import read_unlabelled
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Annotations
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.self_training.files import categories_of, write_external, write_missing
from tis_ray.views import View

REMOVED_SHARE = 0.3  # of the training annotations
COMMON_FROM, FREQUENT_FROM = 11, 101  # training images of a class, as LVIS draws the lines
HIT_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Scenes:
    """The folder of all scenes: some to train on, some to score, and a pool of others without labels."""

    folder: Path
    num_train: int
    num_val: int
    num_pool: int

    @property
    def train(self) -> Path:
        """Labels of the training scenes, a share of them missing."""
        return self.folder / "train.json"

    @property
    def val(self) -> Path:
        """All labels of the scenes to score; the classes are as frequent as `train` says."""
        return self.folder / "val.json"

    @property
    def images(self) -> Path:
        """The pictures of both."""
        return self.folder / "labelled" / "images"

    @property
    def pool(self) -> Path:
        """The pictures that nobody labelled."""
        return self.folder / "pool" / "images"

    def write(self, *, processes: int | None = None) -> None:
        """Draw what is not there yet, and take labels away."""
        count = self.num_train + self.num_val
        labelled, pool = self.folder / "labelled", self.folder / "pool"
        share, options = self.num_val / count, {"preset": "longtail", "processes": processes}
        write_scenes(labelled, num_images=count, val_fraction=share, **options)
        write_scenes(pool, num_images=self.num_pool, seed=1, val_fraction=0.5, **options)
        full = json.loads((labelled / "instances_train.json").read_text())
        chance = np.random.default_rng(0)
        kept = chance.random(len(full["annotations"])) >= REMOVED_SHARE
        parts = [
            [one for one, stays in zip(full["annotations"], kept, strict=True) if stays == want] for want in (1, 0)
        ]
        categories = _counted(full["categories"], parts[0])
        val = json.loads((labelled / "instances_val.json").read_text())
        for path, content in (
            (self.train, {**full, "annotations": parts[0]}),
            (self.folder / "removed.json", {**full, "annotations": parts[1]}),
            (self.val, val),
        ):
            path.write_text(json.dumps({**content, "categories": categories}))

    def removed(self) -> GroundTruth:
        """The training labels that were taken away."""
        return coco.read(self.folder / "removed.json", self.images)

    def pool_truth(self) -> dict[str, Annotations]:
        """What really is in the pool, by file name."""
        read = [coco.read(self.pool.parent / f"instances_{part}.json", self.pool) for part in ("train", "val")]
        return {record.file_name: truth.annotations(record.id) for truth in read for record in truth.images}


def _counted(categories: list[dict[str, Any]], annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """LVIS's counts and the frequency that follows from them, of the labels that are left."""
    instances = Counter(one["category_id"] for one in annotations)
    images = Counter(id_ for id_, _ in {(one["category_id"], one["image_id"]) for one in annotations})
    return [
        {
            **one,
            "instance_count": instances[one["id"]],
            "image_count": (number := images[one["id"]]),
            "frequency": "f" if number >= FREQUENT_FROM else "c" if number >= COMMON_FROM else "r",
        }
        for one in categories
    ]


def teach(checkpoint: Path, scenes: Scenes, out: Path, *, view: View, min_score: float) -> dict[str, float]:
    """Write `out/unlabelled.json` and `out/external.json` by the teacher in `checkpoint`.

    The number of boxes in each, and shares in 0..1: of unlabelled boxes where a label was taken away, of such labels
    that have a box, and of external labels where there is an object of that class.
    """
    out.mkdir(parents=True, exist_ok=True)
    predictor, categories = Predictor.from_checkpoint(checkpoint, device="cpu"), categories_of(checkpoint)
    listed = coco.read(scenes.train, scenes.images).images
    pool = dict(enumerate(sorted(scenes.pool.iterdir()), start=1))
    for name, paths in (("unlabelled", {record.id: record.path for record in listed}), ("external", pool)):
        with ResultsWriter(out / f"{name}.results.json") as writer:
            for image_id, path in paths.items():
                image = open_image(path)
                (found,) = predictor.predict(image, [view])
                writer.write(
                    to_results(
                        found, image_id=image_id, categories=categories, size_hw=(image.shape[0], image.shape[1])
                    )
                )
    results = {name: out / f"{name}.results.json" for name in ("unlabelled", "external")}
    missing = write_missing(results["unlabelled"], scenes.train, out / "unlabelled.json", min_score=min_score)
    labelled = write_external(
        results["external"], scenes.pool, out / "external.json", categories=categories, min_score=min_score
    )
    right, found = _missing_hits(out / "unlabelled.json", scenes)
    return {
        "unlabelled": missing.num_boxes,
        "unlabelled_right": right,
        "removed_found": found,
        "external": labelled.num_boxes,
        "external_right": _external_hits(out / "external.json", scenes),
    }


def _missing_hits(unlabelled: Path, scenes: Scenes) -> tuple[float, float]:
    removed, hits, boxes, found, labels = scenes.removed(), 0, 0, 0, 0
    said = read_unlabelled(unlabelled, removed)
    for record in removed.images:
        truth = removed.annotations(record.id).boxes
        here = said.get(record.id, np.zeros((0, 4), np.float32))
        overlaps = pairwise_iou(here, truth) >= HIT_IOU
        hits, boxes = hits + int(overlaps.any(axis=1).sum()), boxes + len(here)
        found, labels = found + int(overlaps.any(axis=0).sum()), labels + len(truth)
    return hits / max(boxes, 1), found / max(labels, 1)


def _external_hits(external: Path, scenes: Scenes) -> float:
    labelled, truth, hits, boxes = coco.read(external, scenes.pool), scenes.pool_truth(), 0, 0
    for record in labelled.images:
        said, real = labelled.annotations(record.id), truth[record.file_name]
        alike = said.labels[:, None] == real.labels
        hits += int(((pairwise_iou(said.boxes, real.boxes) >= HIT_IOU) & alike).any(axis=1).sum())
        boxes += len(said)
    return hits / max(boxes, 1)
