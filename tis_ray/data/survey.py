"""What a detector is trained on, in numbers: how large its objects are, how many there are of each class and on how
many images, and how much of their boxes they fill.

Nothing but annotations is read. Objects are measured in whole pictures: that some samples are cut to a region, and
shown larger for it, does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.formats import segmentation
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.object_table import ObjectTable, is_object, object_table
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
    table = object_table(truth, None if step == 1 else records)
    categories = truth.categories
    counts = np.bincount(table.labels, minlength=len(categories))
    if not categories.counts and step == 1:
        categories = replace(categories, counts=tuple(counts.tolist()))
    if not categories.image_shares and records:
        held = np.unique(table.images * len(categories) + table.labels) % len(categories)
        holding = np.bincount(held, minlength=len(categories))
        categories = replace(categories, image_shares=tuple((holding / len(records)).tolist()))
    if not categories.area_ratios and len(table):
        filled = np.bincount(table.labels, _area_ratios(truth, records, table), minlength=len(categories))
        ratios = np.divide(filled, counts, out=np.ones(len(categories)), where=counts > 0)
        categories = replace(categories, area_ratios=tuple(ratios.tolist()))
    if not len(table):
        return categories, None
    thin = slice(None, None, -(-len(table) * len(scales) // MOST_SIZES))
    factors_of = lru_cache(maxsize=None)(lambda size_hw: _factors(size_hw, scales, max_long_edge))
    factors = np.array([factors_of((record.height, record.width)) for record in records])
    sizes = np.sqrt(table.sides_wh[thin].prod(axis=1))[:, None] * factors[table.images[thin]]
    return categories, TrainingSizes.of(sizes.ravel())


def _area_ratios(truth: GroundTruth, records: Sequence[ImageRecord], table: ObjectTable) -> NDArray[np.float64]:
    """The share (N,) of its box that each object fills. Masks are looked at only where their areas are not noted."""
    areas = table.areas.copy()
    unknown = ~(areas > 0)
    starts = np.searchsorted(table.images, np.arange(len(records)))
    for position in np.unique(table.images[unknown]).tolist():
        here = [entry for entry in truth.entries(records[position].id) if is_object(entry)]
        for row, entry in enumerate(here, start=int(starts[position])):
            if unknown[row]:
                areas[row] = _mask_area(entry, records[position])
    return np.minimum(areas / table.sides_wh.prod(axis=1), 1.0)


def _mask_area(entry: Mapping[str, Any], record: ImageRecord) -> float:
    """In pixels; that of the box, or more, where there is no mask."""
    if not entry.get("segmentation"):
        return np.inf
    rle = segmentation.to_rle(entry["segmentation"], entry["bbox"], record.height, record.width)
    return float(rle_ops.areas([rle])[0])


def _factors(size_hw: SizeHW, scales: Sequence[int], max_long_edge: int | None) -> tuple[float, ...]:
    """Network pixels per pixel of an image of this size at each scale, after rounding."""
    resized = [resized_hw(size_hw, scale, max_long_edge) for scale in scales]
    return tuple((height * width / (size_hw[0] * size_hw[1])) ** 0.5 for height, width in resized)
