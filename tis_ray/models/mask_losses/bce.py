"""Mean binary cross entropy of all pixels (Mask R-CNN, He et al. 2017)."""

from torch.nn.functional import binary_cross_entropy_with_logits

from tis_ray.models.mask_losses import MaskLoss


def build() -> MaskLoss:
    """The plain loss; it has no options."""
    return binary_cross_entropy_with_logits
