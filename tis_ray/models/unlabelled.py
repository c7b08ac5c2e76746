"""Unlabelled objects: boxes in which a teacher has seen what nobody labelled (LVIS 2020).

A region that shows one of them is no evidence of background, whatever the object is. It shows it where it overlaps the
box as much as a detection would; a small part of a large box is background as before.
"""

import torch
from torch import Tensor

from tis_ray.models.anchor_matching._overlaps import stretches

# From this IoU on a region shows an unlabelled object: the bound at which it would be a positive of a labelled one.
UNLABELLED_IOU = 0.5


def shows_unlabelled(boxes: Tensor, unlabelled: Tensor, *, iou: float = UNLABELLED_IOU) -> Tensor:
    """Bool (N,): which boxes (N, 4) overlap one of the unlabelled boxes (U, 4) by at least `iou`; both xyxy."""
    if not len(unlabelled):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    found = stretches(boxes, unlabelled.to(boxes.dtype))
    return torch.cat([(overlaps >= iou).any(dim=0) for overlaps in found])


def without_unlabelled(labels: Tensor, boxes: Tensor, unlabelled: Tensor, *, iou: float = UNLABELLED_IOU) -> Tensor:
    """`labels` (N,) of boxes (N, 4), with -1 for the negatives (0) that show an unlabelled object; positives stay."""
    if not len(unlabelled):
        return labels
    return torch.where((labels == 0) & shows_unlabelled(boxes, unlabelled, iou=iou), -1, labels)
