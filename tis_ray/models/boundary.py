"""The contours of masks, learnt beside them (BMask R-CNN, Cheng et al. 2020)."""

import torch.nn.functional as F
from torch import Tensor

from tis_ray.models.mask_losses._dice import dice_loss


def boundary_targets(masks: Tensor) -> Tensor:
    """Where a mask's contour runs, of the dtype of `masks`: 1 or 0, (R, M, M), for R > 0 masks (R, M, M) in 0..1.

    Pixels of the mask, those above a half, that have one beside them, or at a corner, that is not: where the Laplacian
    of the binary mask is positive. What lies beyond the region is no mask.
    """
    inside = (masks > 0.5).to(masks.dtype)
    around = F.avg_pool2d(inside, 3, stride=1, padding=1, divisor_override=1)  # sums of 3 x 3 pixels, exact
    return (9 * inside > around).to(masks.dtype)


def boundary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy and dice loss of contour logits float32 (R, M, M), R > 0, for mask targets (R, M, M) in 0..1."""
    contours = boundary_targets(targets)
    bce = F.binary_cross_entropy_with_logits(logits, contours)
    return bce + dice_loss(logits.sigmoid(), contours, denominator="linear")
