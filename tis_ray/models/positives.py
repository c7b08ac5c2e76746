"""The regions of a batch that masks are learnt on: those that show an object, in lists as long as there are any."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

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
    matched: int64 (P_i,) the object of each among the image's targets
    targets: float (sum of P_i, M, M) in 0..1, the share of each cell that the object covers
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    matched: list[Tensor]
    targets: Tensor


@torch.no_grad()
def positives(regions: Sequence[Regions], targets: Sequence[Target], *, size: int, most: int) -> Positives:
    """The first `most` positives of each image, with mask targets of side `size`. Waits for the device once."""
    order = [torch.sort(one.labels <= 0, stable=True).indices[:most] for one in regions]
    first = [Regions(*(values[index] for values in one)) for one, index in zip(regions, order, strict=True)]
    counts = []
    for one, target in zip(first, targets, strict=True):
        shown = one.labels > 0
        counts.append(torch.stack([shown.sum(), (target["masks"].points(one.boxes, size) * shown).sum()]))
    numbers = torch.stack(counts).tolist()
    found = [Regions(*(values[:n] for values in one)) for one, (n, _) in zip(first, numbers, strict=True)]
    masks = [
        target["masks"].sample(one.boxes, one.matched, size, points=points)
        for one, target, (_, points) in zip(found, targets, numbers, strict=True)
    ]
    boxes, matched, labels = (list(each) for each in zip(*found, strict=True))
    return Positives(boxes, labels, matched, torch.cat(masks))
