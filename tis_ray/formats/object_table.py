"""The objects of a data set in columns, for what looks at all of them at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.formats.coco_columns import CocoColumns, columns_of
from tis_ray.formats.dataset import GroundTruth, ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class ObjectTable:
    """N objects of a list of images, in its order: no regions to ignore and nothing without an area.

    images:    int64 (N,) positions in the list, rising
    labels:    int64 (N,) contiguous from 0
    sides_wh:  float64 (N, 2) of their boxes, in pixels of their images, above 0
    areas:     float64 (N,) of their masks in pixels, NaN or 0 where that is not noted
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    sides_wh: NDArray[np.float64]
    areas: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)


def object_table(truth: GroundTruth, records: Sequence[ImageRecord] | None = None) -> ObjectTable:
    """The objects of the images `records` of a data set, by default of all.

    At once where the data set holds its annotations in columns, else entry by entry; a data set that is not in memory
    opens a file for each image. Labels are those of `truth.categories`.
    """
    columns = columns_of(truth)
    labels = {id_: label for label, id_ in enumerate(truth.categories.ids)}
    if records is None and columns is not None:
        return _of_columns(columns, np.array(truth.categories.ids, dtype=np.int64))
    found = [
        (position, labels[entry["category_id"]], entry["bbox"][2:], entry.get("area", np.nan))
        for position, record in enumerate(truth.images if records is None else records)
        for entry in truth.entries(record.id)
        if is_object(entry)
    ]
    return ObjectTable(
        images=np.array([image for image, _, _, _ in found], dtype=np.int64),
        labels=np.array([label for _, label, _, _ in found], dtype=np.int64),
        sides_wh=np.array([sides for _, _, sides, _ in found], dtype=np.float64).reshape(-1, 2),
        areas=np.array([area for _, _, _, area in found], dtype=np.float64),
    )


def is_object(entry: Mapping[str, Any]) -> bool:
    """Whether an entry in COCO's form is one object with an area, no region to ignore."""
    _, _, width, height = entry["bbox"]
    return width > 0 and height > 0 and not entry.get("iscrowd")


def _of_columns(columns: CocoColumns, category_ids: NDArray[np.int64]) -> ObjectTable:
    rows = np.flatnonzero((columns.bboxes[:, 2:] > 0).all(axis=1) & (columns.crowd != 1))
    return ObjectTable(
        images=columns.images[rows],
        labels=np.searchsorted(category_ids, columns.category_ids[rows]),  # classes are in the order of their ids
        sides_wh=columns.bboxes[rows, 2:],
        areas=columns.areas[rows],
    )
