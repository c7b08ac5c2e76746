"""In which precision a detector answers."""

from typing import Literal

import torch
from torch import nn

from tis_ray.models.classification._layer import LinearLayer
from tis_ray.models.deformable import DeformableConv2d
from tis_ray.models.mask_heads._own_class import OwnClassLogits
from tis_ray.models.mask_iou import MaskIoU
from tis_ray.models.roi_pooling.deformable import DeformableRoIPool

Precision = Literal["auto", "bf16", "float32"]

# What computes in float32 under autocast too, wholly or in its last step, with all that is inside; why is said there.
_EXACT = (DeformableConv2d, DeformableRoIPool, LinearLayer, MaskIoU, OwnClassLogits)
_ROUNDED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def dtype_of(precision: Precision, device: torch.device | str) -> torch.dtype:
    """What convolutions and linear layers compute in: bfloat16 on a GPU and float32 without, unless it is said."""
    if precision == "auto":
        precision = "bf16" if torch.device(device).type == "cuda" else "float32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def round_weights(detector: nn.Module) -> None:
    """Round the weights of convolutions and linear layers to bfloat16 for good; changes `detector` in place.

    Under bfloat16 autocast it answers what it did before, to the bit: autocast rounds the same weights, in every
    forward anew. Statistics and scales of norms stay float32, and so does what computes in float32 under autocast too.
    """
    for child in detector.children():
        if isinstance(child, _EXACT):
            continue
        if isinstance(child, _ROUNDED):
            child.to(torch.bfloat16)
        round_weights(child)
