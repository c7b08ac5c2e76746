"""The smallest recipe and checkpoint that exercise every part; shared by the tests."""

from pathlib import Path

from tis_ray.config import Recipe, parse
from tis_ray.instances import Categories

CATEGORIES = Categories((33, 36, 39), ("car", "person", "bus"), ("vehicle", "human", "vehicle"))


def classes(count: int) -> Categories:
    """A table of that many classes."""
    return Categories(tuple(range(1, count + 1)), tuple(f"class {i}" for i in range(1, count + 1)))


TINY_DETECTOR = {
    "backbone": "shufflenet_v2_x0_5",
    "neck": {"fpn": {"channels": 16}},
    "anchors": {"exact": {"sizes": [[8], [16], [32], [64], [128]]}},
    "rpn": {"samples_per_image": 32, "pre_nms_top_n_test": 50, "post_nms_top_n_test": 20},
    "box": {
        "head": {"mlp": {"hidden": 32}},
        "samples_per_image": 16,
        "score_threshold": 0.0,
        "max_instances": 10,
    },
    "mask": {"head": {"convs": {"channels": [16]}}},
}


def tiny_recipe(**overrides: object) -> Recipe:
    """A recipe of a detector so small that it runs in milliseconds; top-level keys may be replaced."""
    content = {"name": "tiny", "data": {"train": {"annotations": "unused.json"}}, "detector": TINY_DETECTOR}
    return parse(Recipe, {**content, **overrides}, source="tiny recipe")


def save_tiny_checkpoint(folder: Path, *, seed: int = 0, categories: Categories = CATEGORIES, **recipe: object) -> Path:
    """A checkpoint of a randomly initialised tiny detector; the same seed gives the same weights."""
    import torch

    from tis_ray.models import checkpoint
    from tis_ray.models.assembly import build_detector

    resolved = tiny_recipe(**recipe)
    torch.manual_seed(seed)
    detector = build_detector(resolved.detector, categories)
    checkpoint.save(folder, detector=detector, recipe=resolved, categories=categories, metrics={})
    return folder
