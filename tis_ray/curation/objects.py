"""The objects of one image measured, and what is wrong with them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from tis_ray.curation.problems import Problem
from tis_ray.formats import segmentation
from tis_ray.formats.dataset import ImageRecord

TINY_PX = 2.0
_FAR_IOU, _FAR_PX = 0.5, 2.0  # a mask is far from its box below this IoU and beyond this distance
_AREA_FACTOR, _AREA_PX = 2.0, 16.0  # areas differ by more than this factor and this number of pixels


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one image, crowds left out, N of them. Frame: the image's own pixels.

    category_ids: int64 (N,)
    areas:        float64 (N,) pixels of the masks, of the box where there is no mask
    crowds:       number of crowds and regions to ignore
    """

    category_ids: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowds: int = 0

    def __len__(self) -> int:
        return len(self.areas)


def measure(record: ImageRecord, entries: Sequence[Mapping[str, Any]]) -> tuple[Objects, list[Problem]]:
    """The objects of an image, from its checked entries in COCO's form, and what is wrong with them."""
    alone = [entry for entry in entries if not entry.get("iscrowd", 0)]
    crowds = len({entry["id"] for entry in entries if entry.get("iscrowd", 0)})
    boxes = np.array([entry["bbox"] for entry in alone], dtype=np.float64).reshape(-1, 4)
    ids = np.array([entry["category_id"] for entry in alone], dtype=np.int64)
    rles = [
        segmentation.to_rle(entry.get("segmentation"), entry["bbox"], record.height, record.width) for entry in alone
    ]
    areas = np.asarray(coco_mask.area(rles), dtype=np.float64).reshape(-1)
    tight = np.asarray(coco_mask.toBbox(rles), dtype=np.float64).reshape(-1, 4)
    masked = np.array([bool(entry.get("segmentation")) for entry in alone], dtype=np.bool_)
    areas = np.where(masked, areas, boxes[:, 2] * boxes[:, 3])
    stated = np.array([entry.get("area", areas[i]) for i, entry in enumerate(alone)], dtype=np.float64)
    has_area = (boxes[:, 2:] > 0).all(axis=1)
    whole = masked & has_area & (areas > 0)
    wrong = {
        "no area": ~has_area,
        "empty mask": masked & has_area & (areas == 0),
        "mask off box": whole & _far(boxes, tight),
        "other area": whole & _differ(stated, areas),
        "same object": has_area & repeated(ids, boxes),
        "tiny object": has_area & (areas > 0) & (areas < TINY_PX**2),
    }
    problems = [
        Problem(kind, _where(record, alone[i], areas[i], tight[i]))
        for kind, which in wrong.items()
        for i in np.flatnonzero(which)
    ]
    return Objects(ids, areas, crowds), problems


def contradictions(record: ImageRecord, category_ids: Collection[int], names: Mapping[int, str]) -> list[Problem]:
    """Classes that have an object in an image of which LVIS's list says that there is none."""
    absent = set(record.federated.absent) if record.federated is not None else set()
    return [Problem("contradiction", f"{record.file_name}: {names[id_]}") for id_ in sorted(absent & set(category_ids))]


def repeated(category_ids: NDArray[np.int64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of N objects have the class and the box, to a hundredth of a pixel, of one before them."""
    again = np.ones(len(boxes), dtype=np.bool_)
    rows = np.concatenate([category_ids[:, None], np.round(boxes * 100)], axis=1)
    again[np.unique(rows, axis=0, return_index=True)[1]] = False
    return again


def _far(boxes: NDArray[np.float64], tight: NDArray[np.float64]) -> NDArray[np.bool_]:
    corner, far = np.maximum(boxes[:, :2], tight[:, :2]), np.minimum(_ends(boxes), _ends(tight))
    shared = np.prod(np.maximum(far - corner, 0), axis=1)
    union = np.prod(boxes[:, 2:], axis=1) + np.prod(tight[:, 2:], axis=1) - shared
    apart = np.maximum(np.abs(boxes[:, :2] - tight[:, :2]), np.abs(_ends(boxes) - _ends(tight))).max(axis=1)
    return np.asarray((shared < _FAR_IOU * union) & (apart > _FAR_PX))


def _ends(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes[:, :2] + boxes[:, 2:]


def _differ(stated: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    low, high = np.minimum(stated, areas), np.maximum(stated, areas)
    return (high > _AREA_FACTOR * low) & (high - low > _AREA_PX)


def _where(record: ImageRecord, entry: Mapping[str, Any], area: float, tight: NDArray[np.float64]) -> str:
    box, mask = (", ".join(f"{value:g}" for value in values) for values in (entry["bbox"], tight))
    stated = f", area {entry['area']:g}" if "area" in entry else ""
    return (
        f"{record.file_name}: annotation {entry['id']} of category {entry['category_id']}: box {box}{stated}; "
        f"mask of {area:g} px in {mask}"
    )
