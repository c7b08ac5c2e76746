"""Images of another data set whose classes are those of the training set, by name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.instances import Annotations, Categories

MOST_NAMES = 5  # of classes in one line


class JoinedTruth:
    """The images of `truth` with the labels that `categories` gives their classes. `len()` is their number.

    Classes that `truth` lacks nobody has looked for: of these its images are `unverified`. Raises `DataError` for a
    class of its own.
    """

    def __init__(self, truth: GroundTruth, categories: Categories) -> None:
        self._truth, self.categories = truth, categories
        if unknown := [name for name in truth.categories.names if name not in categories.names]:
            more = f" and {len(unknown) - MOST_NAMES} more" if len(unknown) > MOST_NAMES else ""
            raise DataError(
                f"{truth.path}: categories: expected classes of the training set; "
                f"got {', '.join(unknown[:MOST_NAMES])}{more}"
            )
        self._labels = truth.categories.index_map(categories)
        self._ids = {id_: categories.ids[label] for id_, label in zip(truth.categories.ids, self._labels, strict=True)}
        self._lacks = np.ones(len(categories), np.bool_)
        self._lacks[self._labels] = False

    @property
    def path(self) -> Path:
        """Where the images' ground truth is."""
        return self._truth.path

    @property
    def images(self) -> Sequence[ImageRecord]:
        """ImageRecords sorted by id."""
        return self._truth.images

    @property
    def unscored(self) -> Collection[int]:
        """None: nothing is scored on them."""
        return ()

    @property
    def in_memory(self) -> bool:
        """Whether `entries` are at hand."""
        return self._truth.in_memory

    def __len__(self) -> int:
        return len(self._truth)

    def image(self, image_id: int) -> ImageRecord:
        """The record of one image; `DataError` for an id that there is none of."""
        return self._truth.image(image_id)

    def entries(self, image_id: int) -> list[Mapping[str, Any]]:
        """Annotations in COCO's form, with the ids of `categories`."""
        return [{**entry, "category_id": self._ids[entry["category_id"]]} for entry in self._truth.entries(image_id)]

    def annotations(self, image_id: int) -> Annotations:
        """Ground truth of one image with the labels of `categories`."""
        found = self._truth.annotations(image_id)
        labels = np.append(self._labels, np.int32(-1))[found.labels]  # -1 stays: any class
        unverified = self._lacks.copy()
        if found.unverified is not None:
            unverified[self._labels] = found.unverified
        return replace(found, labels=labels, unverified=unverified if unverified.any() else None)
