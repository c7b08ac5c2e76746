"""From annotations to what the detector is trained on: the one place where labels gain their background class."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.instances import Annotations
from tis_ray.models.ignore import IgnoreMap
from tis_ray.models.mask_targets import PackedCrops
from tis_ray.ops.boxes import Boxes


class Target(TypedDict):
    """Ground truth of one image in the network frame, G objects.

    boxes: float (G, 4) xyxy; labels: int64 (G,) from 1, 0 being background; masks: the G crops;
    ignore: the regions in which nothing is a negative example, or None; stuff: uint8 (H, W) what each pixel shows,
    255 where that is unknown, or None; unlabelled: float (U, 4) xyxy, objects that nobody labelled;
    unverified: bool (K,) classes of which there may be objects without annotations, or None.
    """

    boxes: Tensor
    labels: Tensor
    masks: PackedCrops
    ignore: IgnoreMap | None
    stuff: Tensor | None
    unlabelled: Tensor
    unverified: Tensor | None


def to_targets(
    annotations: Sequence[Annotations], sizes_hw: Sequence[tuple[int, int]], device: torch.device
) -> list[Target]:
    """Targets on `device`. Crowds become ignore regions, whatever their label; boxes without area are left out."""
    return [_to_target(one, size_hw, device) for one, size_hw in zip(annotations, sizes_hw, strict=True)]


def _to_target(annotations: Annotations, size_hw: tuple[int, int], device: torch.device) -> Target:
    kept = annotations[~annotations.crowd & _have_area(annotations.boxes)]
    unlabelled = np.zeros((0, 4), np.float32) if annotations.unlabelled is None else annotations.unlabelled
    unlabelled = unlabelled[_have_area(unlabelled)]
    stuff = None if annotations.stuff is None else torch.from_numpy(np.ascontiguousarray(annotations.stuff))
    unverified = annotations.unverified
    return {
        "boxes": torch.from_numpy(kept.boxes).to(device, non_blocking=True),
        "labels": (torch.from_numpy(kept.labels).long() + 1).to(device, non_blocking=True),
        "masks": PackedCrops.pack(kept.masks, size_hw).to(device),
        "ignore": IgnoreMap.of(annotations.masks[annotations.crowd], size_hw, device),
        "stuff": None if stuff is None else stuff.to(device, non_blocking=True),
        "unlabelled": torch.from_numpy(unlabelled).to(device, non_blocking=True),
        "unverified": None if unverified is None else torch.from_numpy(unverified).to(device, non_blocking=True),
    }


def _have_area(boxes: Boxes) -> NDArray[np.bool_]:
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
