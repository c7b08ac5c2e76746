"""The mask branch of Mask R-CNN (He et al. 2017), fed by packed crops in the place of full-frame masks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tis_ray.models.roi_pooling import Features, SizesHW
from tis_ray.models.targets import Target


class MaskBranch(nn.Module):
    """RoI pooling, mask head and per-class mask predictor.

    only_in_training: masks teach the features and are not predicted (MegDetV2's detectors)
    """

    def __init__(self, pool: nn.Module, head: nn.Module, predictor: nn.Module, *, only_in_training: bool) -> None:
        super().__init__()
        self.pool = pool
        self.head = head
        self.predictor = predictor
        self.only_in_training = only_in_training

    def forward(
        self, features: Features, boxes: list[Tensor], labels: Tensor, sizes_hw: SizesHW, *, shared: nn.Module
    ) -> Tensor:
        """Logits (R, M, M) of each RoI's own class; `labels` int64 (R,) over all images.

        shared: the module between pool and head, which is owned by someone else
        """
        logits = self.predictor(self.head(shared(self.pool(features, boxes, sizes_hw))))  # (R, classes, M, M)
        return logits[torch.arange(len(labels), device=labels.device), labels]

    def loss(
        self,
        features: Features,
        boxes: list[Tensor],
        labels: list[Tensor],
        matched: list[Tensor],
        targets: list[Target],
        sizes_hw: SizesHW,
        *,
        shared: nn.Module,
    ) -> Tensor:
        """Mean binary cross entropy of positive regions, boxes (R_i, 4), each with its class and its object."""
        logits = self(features, boxes, torch.cat(labels), sizes_hw, shared=shared)
        if len(logits) == 0:  # keeps the branch in the graph, so that every rank reduces the same gradients
            return logits.float().sum() * 0
        size = logits.shape[-1]
        wanted = [t["masks"].sample(box, match, size) for t, box, match in zip(targets, boxes, matched, strict=True)]
        return F.binary_cross_entropy_with_logits(logits.float(), torch.cat(wanted).float())
