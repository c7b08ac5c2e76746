"""Where the objects of a data set lie and how large they are, in its images and as a detector sees them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.views import resized_hw


@dataclass(frozen=True, slots=True)
class Objects:
    """N objects of any number of frames.

    boxes:     (N, 4) xyxy in pixels of their frames, with areas above 0
    frames_hw: (N, 2) height and width of each one's frame
    """

    boxes: NDArray[np.float64]
    frames_hw: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def sides_wh(self) -> NDArray[np.float64]:
        """Widths and heights (N, 2)."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @property
    def scales(self) -> NDArray[np.float64]:
        """sqrt(width * height), (N,)."""
        return np.sqrt(self.sides_wh.prod(axis=1))


def read_objects(truth: GroundTruth, records: Iterable[ImageRecord]) -> Objects:
    """The objects of the images `records` of a data set, each image being their frame; boxes are cut to it.

    Regions to ignore and boxes without area do not count. Raises `DataError` where nothing is left.
    """
    bboxes: list[Sequence[float]] = []
    frames: list[tuple[int, int]] = []
    for record in records:
        found = [entry["bbox"] for entry in truth.entries(record.id) if not entry.get("iscrowd")]
        bboxes += found
        frames += [(record.height, record.width)] * len(found)
    xywh = np.array(bboxes, dtype=np.float64).reshape(-1, 4)
    frames_hw = np.array(frames, dtype=np.int64).reshape(-1, 2)
    limits_wh = frames_hw[:, ::-1]
    low = np.clip(xywh[:, :2], 0, limits_wh)
    high = np.clip(xywh[:, :2] + xywh[:, 2:], 0, limits_wh)
    solid = (high > low).all(axis=1)
    if not solid.any():
        raise DataError(f"{truth.path}: expected at least one object with an area; found none")
    return Objects(np.concatenate([low, high], axis=1)[solid], frames_hw[solid])


def in_network(objects: Objects, *, scales: Sequence[int], max_long_edge: int | None) -> Objects:
    """All objects as a detector sees them at each of the `scales`, one scale after another; frames are not padded."""
    sizes_hw, which = np.unique(objects.frames_hw, axis=0, return_inverse=True)
    seen = []
    for scale in scales:
        resized = [resized_hw((height, width), scale, max_long_edge) for height, width in sizes_hw.tolist()]
        resized_sizes_hw = np.array(resized, dtype=np.int64)
        factors_wh = (resized_sizes_hw / sizes_hw)[which.reshape(-1), ::-1]
        seen.append(Objects(objects.boxes * np.tile(factors_wh, 2), resized_sizes_hw[which.reshape(-1)]))
    return Objects(np.concatenate([one.boxes for one in seen]), np.concatenate([one.frames_hw for one in seen]))
