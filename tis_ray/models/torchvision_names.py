"""The names of weights in torchvision's Mask R-CNN and in ours, there and back.

The same blocks under other names: torchvision's pyramid is part of its backbone, ours a neck; its mask head and
predictor lie beside the box head, ours are one head of a branch; its one box head is the first of our stages.
"""

import re
from collections.abc import Mapping

from torch import Tensor

RENAMED = (
    ("backbone.fpn.", "neck.pyramid."),
    ("roi_heads.box_head.", "roi_heads.stages.0.head."),
    ("roi_heads.box_predictor.cls_score.", "roi_heads.stages.0.classifier.layer."),
    ("roi_heads.box_predictor.bbox_pred.", "roi_heads.stages.0.regressor."),
    ("roi_heads.mask_head.", "roi_heads.mask_branch.heads.0.convs."),
    ("roi_heads.mask_predictor.conv5_mask.", "roi_heads.mask_branch.heads.0.upsample."),
    ("roi_heads.mask_predictor.mask_fcn_logits.", "roi_heads.mask_branch.heads.0.logits."),
)
_OLD_PARAMETER = re.compile(
    r"(?P<rpn>rpn\.head\.conv)\.(?=weight|bias)"
    r"|(?P<fpn>backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(?=weight|bias)"
    r"|(?P<mask>roi_heads\.mask_head)\.mask_fcn(?P<number>\d+)\."
)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of torchvision's Mask R-CNN under our names; those of torchvision before 0.13 are known too."""
    return {our_name(key): value for key, value in state.items()}


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of our Mask R-CNN under torchvision's names, for a model of the same parts and classes."""
    return {torchvision_name(key): value for key, value in state.items()}


def our_name(key: str) -> str:
    """One name of torchvision's, of any version, in our detector."""
    key = _OLD_PARAMETER.sub(_modern, key)
    return next((ours + key.removeprefix(theirs) for theirs, ours in RENAMED if key.startswith(theirs)), key)


def torchvision_name(key: str) -> str:
    """One name of our detector in torchvision's."""
    return next((theirs + key.removeprefix(ours) for theirs, ours in RENAMED if key.startswith(ours)), key)


def _modern(old: re.Match[str]) -> str:
    """torchvision 0.13 wrapped single convolutions into blocks: `conv.weight` became `conv.0.0.weight`."""
    if old["mask"]:
        return f"{old['mask']}.{int(old['number']) - 1}.0."
    return f"{old['rpn']}.0.0." if old["rpn"] else f"{old['fpn']}.0."
