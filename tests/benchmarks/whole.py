"""A whole fusion, masks to RLE included, of 20 views with 300 instances each, beside one built from libraries."""

from typing import Any

import ensemble_boxes
import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.generate import FRAME_HEIGHT, FRAME_WIDTH, Detections, views_of_boxes
from tests.benchmarks.masks import patches_of
from tests.benchmarks.timing import Row, compare
from tis_ray.config import FusionSection
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

VIEWS, EACH, CLASSES, KEPT = 20, 300, 7, 100


def rows() -> list[Row]:
    """Weighted boxes fusion with the best detection's mask, and NMS with the masks of all views averaged."""
    found = views_of_boxes(VIEWS, VIEWS * EACH, CLASSES)
    patches = patches_of(VIEWS * EACH)
    return [
        compare(
            "wbf, best mask, 100 RLEs",
            "ensemble-boxes + torchvision paste + pycocotools",
            lambda: libraries_best(found, patches),
            fusion(found, patches, {"rules": ["wbf"], "masks": "best", "top_k": KEPT}),
            target=20,
            peer_repeats=3,
        ),
        compare(
            "wbf, mean mask of all views, 10 RLEs",
            "the same, pasting each view's mask",
            lambda: libraries_mean(found, patches, kept=10),
            fusion(found, patches, {"rules": ["wbf"], "masks": "average", "top_k": 10}),
            target=20,
            peer_repeats=1,
        ),
    ]


def fusion(found: Detections, patches: peers.Masks, section: dict[str, Any]) -> Any:
    """Our fusion of the views, to RLEs."""
    masks = BoxMasks(found.boxes, patches)
    everything = Instances.of(found.boxes, found.scores, found.labels, masks)
    views = {View(f"view{number:02}", 800): everything[found.source == number] for number in range(VIEWS)}
    fuser = Fuser(FusionSection.model_validate(section))

    def fuse() -> Any:
        fused = fuser.fuse(views, image_hw=(FRAME_HEIGHT, FRAME_WIDTH))
        return fused.masks.to_rle(FRAME_HEIGHT, FRAME_WIDTH)

    return fuse


def libraries_best(found: Detections, patches: peers.Masks) -> list[dict[str, Any]]:
    """Boxes by ensemble-boxes; for the best hundred the mask of the detection that overlaps each most, pasted."""
    boxes, _, labels = _fused_boxes(found)
    chosen = []
    for box, label in zip(boxes[:KEPT], labels[:KEPT], strict=True):
        ious = np.where(found.labels == label, _ious(box, found.boxes), -1)
        chosen.append(int(ious.argmax()))
    return peers.paste_and_encode(patches[chosen], found.boxes[chosen])


def libraries_mean(found: Detections, patches: peers.Masks, kept: int) -> list[dict[str, Any]]:
    """As above, but every view's mask is pasted into the frame and the mean of them encoded."""
    import torch
    from pycocotools import mask as coco_mask
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    boxes, _, labels = _fused_boxes(found)
    rles = []
    for box, label in zip(boxes[:kept], labels[:kept], strict=True):
        ious = np.where(found.labels == label, _ious(box, found.boxes), -1)
        chosen = []
        for view in range(VIEWS):
            own = np.where(found.source == view, ious, -1)
            if own.max() >= 0.5:
                chosen.append(int(own.argmax()))
        stack = torch.from_numpy(patches[chosen].astype(np.float32))[:, None]
        pasted = paste_masks_in_image(stack, torch.from_numpy(found.boxes[chosen]), (FRAME_HEIGHT, FRAME_WIDTH))
        rles.append(coco_mask.encode(np.asfortranarray((pasted.mean(0)[0] > 0.5).numpy().astype(np.uint8))))
    return rles


def _fused_boxes(found: Detections) -> tuple[Any, Any, Any]:
    frame = np.array([FRAME_WIDTH, FRAME_HEIGHT] * 2, dtype=np.float32)
    views = range(VIEWS)
    boxes, scores, labels = ensemble_boxes.weighted_boxes_fusion(
        [found.boxes[found.source == view] / frame for view in views],
        [found.scores[found.source == view] for view in views],
        [found.labels[found.source == view] for view in views],
        iou_thr=0.55,
    )
    return boxes * frame, scores, labels


def _ious(box: Any, boxes: Any) -> Any:
    wh = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = wh.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + areas - shared)
