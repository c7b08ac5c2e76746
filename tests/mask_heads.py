"""Mask heads for tests: any of the menu, small, and asked as the mask branch asks it."""

import torch
from torch import Tensor, nn

from tis_ray.menu import choices, pick
from tis_ray.models.mask_heads import MaskLogits

MENU = "tis_ray.models.mask_heads"
HEADS = choices(MENU)


def build_head(
    name: str, *, in_channels: int = 6, pool_size: int = 6, num_classes: int = 3, **options: object
) -> nn.Module:
    """A head of seed 0; of two convolutions of 8 channels where `options` say no more."""
    torch.manual_seed(0)
    options = {"channels": (8, 8), **options}
    return pick(MENU, "build", name, key="head")(in_channels, pool_size, num_classes, **options)


def regions_of(count: int, *, channels: int = 6, size: int = 6, seed: int = 1) -> Tensor:
    """Regions (count, channels, size, size) that want gradients."""
    values = torch.randn((count, channels, size, size), generator=torch.Generator().manual_seed(seed))
    return values.requires_grad_()


def ask(head: nn.Module, regions: Tensor, labels: Tensor) -> MaskLogits:
    """What the head says; one that reads the finest level sees there what it sees in the region, enlarged."""
    if head.finest_size is None:
        return head(regions, labels)
    return head(regions, labels, finest=nn.functional.interpolate(regions, size=head.finest_size))
