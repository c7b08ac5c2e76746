"""The libraries that the benchmarks compare with, each called as its users call it."""

from collections.abc import Callable
from typing import Any

import ensemble_boxes
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms

from tests.benchmarks.generate import FRAME_HEIGHT, FRAME_WIDTH, Detections

Masks = NDArray[np.float16]  # (N, M, M)
Boxes = NDArray[np.float32]  # (N, 4)
_FRAME = np.array([FRAME_WIDTH, FRAME_HEIGHT, FRAME_WIDTH, FRAME_HEIGHT], dtype=np.float32)


def torchvision_nms(found: Detections, iou_threshold: float) -> Callable[[], torch.Tensor]:
    """torchvision's class-wise NMS on tensors that are ready."""
    boxes, scores, labels = (torch.from_numpy(array) for array in (found.boxes, found.scores, found.labels))
    return lambda: batched_nms(boxes, scores, labels.long(), iou_threshold)


def ensemble_boxes_rule(name: str, found: Detections, **options: Any) -> Callable[[], tuple[Any, Any, Any]]:
    """A function of ensemble-boxes on its own input: lists by view, boxes in 0..1."""
    views = range(int(found.source.max()) + 1)
    boxes = [found.boxes[found.source == view] / _FRAME for view in views]
    scores = [found.scores[found.source == view] for view in views]
    labels = [found.labels[found.source == view] for view in views]
    function = getattr(ensemble_boxes, name)
    return lambda: function(boxes, scores, labels, weights=None, **options)


def paste_and_encode(masks: Masks, boxes: Boxes, *, at_once: int = 100) -> list[dict[str, Any]]:
    """torchvision's paste, its threshold, and COCO's encoder, `at_once` masks together: 100 are its detectors' own."""
    rles: list[dict[str, Any]] = []
    for start in range(0, len(masks), at_once):
        patches = torch.from_numpy(masks[start : start + at_once].astype(np.float32))[:, None]
        pasted = paste_masks_in_image(
            patches, torch.from_numpy(boxes[start : start + at_once]), (FRAME_HEIGHT, FRAME_WIDTH)
        )
        rles += [coco_mask.encode(np.asfortranarray(one)) for one in (pasted[:, 0] > 0.5).numpy().astype(np.uint8)]
    return rles


def greedy_mask_nms(rles: list[dict[str, Any]], scores: NDArray[np.float32], iou_threshold: float) -> list[int]:
    """Mask NMS as one writes it around pycocotools: all IoUs, then greedily by score."""
    ious = coco_mask.iou(rles, rles, [0] * len(rles))
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if not kept or ious[i, kept].max() <= iou_threshold:
            kept.append(i)
    return kept
