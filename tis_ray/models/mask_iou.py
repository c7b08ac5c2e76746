"""How well a predicted mask fits, predicted by a head of its own (Mask Scoring R-CNN, Huang et al. 2019; MegDetV2).

A detection's score tells how sure its class is, and says little about its outline. The product of both ranks masks.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tis_ray.models.class_rows import BACKGROUND, ClassRows, with_class_rows

FITS = 0.5  # a cell belongs to a mask from here on


class MaskIoU(nn.Module):
    """3x3 convolutions of which the last halves the grid, then two layers of `hidden` units and a row for each class.

    in_channels, size: of the regions that the mask head sees
    """

    def __init__(
        self, in_channels: int, size: int, num_classes: int, *, convs: int, channels: int, hidden: int
    ) -> None:
        super().__init__()
        widths = [in_channels + 1, *[channels] * convs]
        strides = [1] * (convs - 1) + [2]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, 1)
            for (before, after), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.fc1 = nn.Linear(channels * (-(-size // 2)) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.iou = with_class_rows(nn.Linear(hidden, num_classes + 1), ClassRows((BACKGROUND,)))
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.iou.weight, std=0.01)
        nn.init.zeros_(self.iou.bias)

    def forward(self, regions: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
        """The IoU float32 (R,) that each mask is said to have with its object, roughly in 0..1.

        regions: (R, C, S, S) as the mask head saw them; probs: (R, M, M), its masks, which learn nothing from here;
        labels: int64 (R,) from 1
        """
        masks = F.adaptive_max_pool2d(probs.detach()[:, None], regions.shape[-1])  # of 2 x 2 where M is 2S
        features = torch.cat([regions, masks.to(regions.dtype)], dim=1)
        for conv in self.convs:
            features = F.relu(conv(features))
        vectors = F.relu(self.fc2(F.relu(self.fc1(features.flatten(1)))))
        return (vectors.float() * self.iou.weight[labels]).sum(dim=1) + self.iou.bias[labels]

    def loss(self, regions: Tensor, probs: Tensor, labels: Tensor, *, targets: Tensor, inside: Tensor) -> Tensor:
        """Half the mean squared error, over masks that meet their object; 0 with gradients where none does.

        targets: (R, M, M) in 0..1, the share of each cell that the object covers; inside: see `iou_with_whole`
        """
        return iou_loss(self(regions, probs, labels), iou_with_whole(probs.detach().float(), targets, inside))


def iou_loss(predicted: Tensor, ious: Tensor) -> Tensor:
    """Half the mean squared error of predicted IoUs (R,), over those that are truly above 0."""
    counted = ious > 0
    errors = torch.where(counted, predicted - ious, 0).square()
    return errors.sum() / counted.sum().clamp(min=1) / 2


def iou_with_whole(probs: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """The IoU (R,) of each mask with its whole object, part of which may lie outside the region.

    probs, targets: (R, M, M) in 0..1, the mask and what of the object lies in its region, both taken from 0.5 on;
    inside: (R,) in 0..1, the share of the object's area that lies in the region
    """
    mask, truth = probs >= FITS, targets >= FITS
    common = (mask & truth).sum(dim=(1, 2))
    whole = truth.sum(dim=(1, 2)) / inside.clamp(min=torch.finfo(inside.dtype).tiny)
    return common / (mask.sum(dim=(1, 2)) + whole - common).clamp(min=1)
