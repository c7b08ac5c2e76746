"""What a detector is trained on, in numbers: how large its objects are, how many there are of each class and on how
many images, and how much of their boxes they fill.

Nothing but annotations is read. Objects are measured in whole pictures: that some samples are cut to a region, and
shown larger for it, does not count.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from tis_ray.formats import segmentation
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.instances import Categories
from tis_ray.ops import rle as rle_ops
from tis_ray.views import SizeHW, resized_hw

MOST_FILES = 64  # where each image's ground truth is a file of its own, that many stand for all
MOST_SIZES = 4_000_000


def survey(
    truth: GroundTruth, *, scales: Sequence[int], max_long_edge: int | None
) -> tuple[Categories, TrainingSizes | None]:
    """The class table with its training instances, shares of images and area ratios, and the sizes of all objects at
    all `scales`, each counting alike.

    The table keeps what it has of these. Where a part of the images stands for all it gets no counts, and the rest are
    estimates: a class that none of them holds has share 0. A class without objects has area ratio 1, as if they filled
    their boxes. Regions to ignore and boxes without area do not count; sizes are None where there is no object at all.
    The answer is the same in every process.
    """
    step = 1 if truth.in_memory else -(-len(truth) // MOST_FILES)
    records = truth.images[::step]
    counts: Counter[int] = Counter()
    holding: Counter[int] = Counter()
    filled: defaultdict[int, float] = defaultdict(float)  # sums of area ratios
    sides: list[float] = []
    factors: list[tuple[float, ...]] = []
    factors_of = lru_cache(maxsize=None)(lambda size_hw: _factors(size_hw, scales, max_long_edge))
    for record in records:
        at_scales = factors_of((record.height, record.width))
        here = [entry for entry in truth.entries(record.id) if is_object(entry)]
        ids = [entry["category_id"] for entry in here]
        counts.update(ids)
        holding.update(set(ids))
        if not truth.categories.area_ratios:
            for entry in here:
                filled[entry["category_id"]] += _area_ratio(entry, (record.height, record.width))
        sides += [entry["bbox"][2] * entry["bbox"][3] for entry in here]
        factors += [at_scales] * len(here)
    categories = truth.categories
    if not categories.counts and step == 1:
        categories = replace(categories, counts=tuple(counts[id_] for id_ in categories.ids))
    if not categories.image_shares and records:
        categories = replace(categories, image_shares=tuple(holding[id_] / len(records) for id_ in categories.ids))
    if filled:
        ratios = tuple(filled[id_] / counts[id_] if counts[id_] else 1.0 for id_ in categories.ids)
        categories = replace(categories, area_ratios=ratios)
    if not sides:
        return categories, None
    thin = slice(None, None, -(-len(sides) * len(scales) // MOST_SIZES))
    sizes = np.sqrt(np.array(sides[thin], dtype=np.float64))[:, None] * np.array(factors[thin])
    return categories, TrainingSizes.of(sizes.ravel())


def is_object(entry: Mapping[str, Any]) -> bool:
    """Whether an entry in COCO's form is one object with an area, no region to ignore."""
    _, _, width, height = entry["bbox"]
    return width > 0 and height > 0 and not entry.get("iscrowd")


def _area_ratio(entry: Mapping[str, Any], size_hw: SizeHW) -> float:
    """The share of its box that an object fills. Masks are looked at only where their areas are not noted."""
    _, _, width, height = entry["bbox"]
    area = float(entry.get("area", 0))
    if not area and not entry.get("segmentation"):
        return 1.0
    if not area:
        area = float(rle_ops.areas([segmentation.to_rle(entry["segmentation"], entry["bbox"], *size_hw)])[0])
    return min(area / float(width * height), 1.0)


def _factors(size_hw: SizeHW, scales: Sequence[int], max_long_edge: int | None) -> tuple[float, ...]:
    """Network pixels per pixel of an image of this size at each scale, after rounding."""
    resized = [resized_hw(size_hw, scale, max_long_edge) for scale in scales]
    return tuple((height * width / (size_hw[0] * size_hw[1])) ** 0.5 for height, width in resized)
