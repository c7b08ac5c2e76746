"""The regions of a batch that masks are learnt on: those that show an object, in lists as long as there are any."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_area

from tis_ray.models.targets import Target


class Regions(NamedTuple):
    """Training regions of one image: boxes (S, 4), `matched` int64 (S,) the object of each, `labels` int64 (S,) from 1,
    0 for background, -1 where the place does not count.
    """

    boxes: Tensor
    matched: Tensor
    labels: Tensor


class Positives(NamedTuple):
    """Regions that show objects, image by image, P_i each.

    boxes:   float (P_i, 4) xyxy in the network frame
    labels:  int64 (P_i,) from 1
    targets: float (sum of P_i, M, M) in 0..1, the share of each cell that the object covers
    ratios:  float (sum of P_i,) in 0..1, the share of its own box that each one's object fills; 1 of a mask that has
             lost all of its pixels
    inside:  float (sum of P_i,) in 0..1, the share of each one's object that lies in the region; None where not asked
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    targets: Tensor
    ratios: Tensor
    inside: Tensor | None = None


@torch.no_grad()
def positives(
    regions: Sequence[Regions], targets: Sequence[Target], *, size: int, most: int, inside: bool = False
) -> Positives:
    """The first `most` positives of each image, with mask targets of side `size`. Waits for the device once.

    inside: whether to find out how much of each object lies in its region
    """
    order = [torch.sort(one.labels <= 0, stable=True).indices[:most] for one in regions]
    first = [Regions(*(values[index] for values in one)) for one, index in zip(regions, order, strict=True)]
    counts = []
    for one, target in zip(first, targets, strict=True):
        shown = one.labels > 0
        counts.append(torch.stack([shown.sum(), (target["masks"].points(one.boxes, size) * shown).sum()]))
    numbers = torch.stack(counts).tolist()
    found = [Regions(*(values[:n] for values in one)) for one, (n, _) in zip(first, numbers, strict=True)]
    places = [
        (target["masks"], one.boxes, one.matched, points)
        for one, target, (_, points) in zip(found, targets, numbers, strict=True)
    ]
    masks = torch.cat([crops.sample(*rois, size, points=points) for crops, *rois, points in places])
    parts = [crops.inside(*rois, size, points=points) for crops, *rois, points in places] if inside else None
    areas = torch.cat([target["masks"].areas[one.matched] for one, target in zip(found, targets, strict=True)])
    frames = torch.cat([box_area(target["boxes"])[one.matched] for one, target in zip(found, targets, strict=True)])
    return Positives(
        [one.boxes for one in found],
        [one.labels for one in found],
        targets=masks,
        ratios=_shares(areas, frames),
        inside=None if parts is None else torch.cat(parts),
    )


def _shares(areas: Tensor, frames: Tensor) -> Tensor:
    """The share (R,) of boxes of area `frames` that masks of `areas` fill; 1 where there is no pixel."""
    return torch.where(areas > 0, areas / frames, 1).clamp(max=1)
