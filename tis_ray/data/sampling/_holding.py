"""Which image holds which classes."""

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import ConfigError
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.object_table import object_table


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
    table = object_table(truth)
    pairs = np.unique(table.images * max(len(truth.categories), 1) + table.labels)
    images, classes = np.divmod(pairs, max(len(truth.categories), 1))
    return images, classes
