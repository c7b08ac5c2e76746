"""Which image holds which classes."""

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.survey import is_object
from tis_ray.errors import ConfigError
from tis_ray.formats.dataset import GroundTruth


def classes_held(truth: GroundTruth) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images (P,) that hold an object and the classes (P,) that they hold, as indices, each pair once, by image.

    Regions to ignore do not count, nor do boxes without area. Raises `ConfigError` for a data set whose ground truth
    is a file for each image: opening tens of thousands of label images would take an hour before the first step.
    """
    if not truth.in_memory:
        raise ConfigError(
            f"data.sampling: expected 'every' for label images, as what the {len(truth)} in {truth.path} hold is known "
            "only when all have been opened; got one that goes by their classes, which COCO JSON has at hand"
        )
    labels = {id_: label for label, id_ in enumerate(truth.categories.ids)}
    images: list[int] = []
    classes: list[int] = []
    for index, record in enumerate(truth.images):
        held = {labels[entry["category_id"]] for entry in truth.entries(record.id) if is_object(entry)}
        images += [index] * len(held)
        classes += sorted(held)
    return np.array(images, dtype=np.int64), np.array(classes, dtype=np.int64)
