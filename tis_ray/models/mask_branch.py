"""The mask branch of Mask R-CNN (He et al. 2017), once or once a box stage (Hybrid Task Cascade, Chen et al. 2019)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tis_ray.models.mask_heads import MaskHead, MaskLogits
from tis_ray.models.mask_losses import MaskLoss
from tis_ray.models.positives import Positives
from tis_ray.models.pyramid_align import Features, SizesHW
from tis_ray.models.roi_pooling import RoiPool


class MaskPrediction(NamedTuple):
    """Masks of R boxes: `probs` float32 (R, M, M) in 0..1 over each box."""

    probs: Tensor


class MaskBranch(nn.Module):
    """RoI pool, mask heads and mask loss.

    heads:            one, or one for each box stage; then the mask is the mean of what all say
    takes_shared:     whether regions go through the shared stage before the heads
    only_in_training: masks teach the features and are not predicted (MegDetV2's detectors)
    """

    def __init__(
        self,
        pool: RoiPool,
        heads: Sequence[MaskHead],
        loss: MaskLoss,
        *,
        takes_shared: bool,
        only_in_training: bool,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.heads = nn.ModuleList(heads)
        self.loss = loss
        self.takes_shared = takes_shared
        self.only_in_training = only_in_training

    @property
    def size(self) -> int:
        """The side of its masks."""
        return self.heads[0].size

    def forward(
        self, features: Features, boxes: list[Tensor], labels: Tensor, sizes_hw: SizesHW, *, shared: nn.Module
    ) -> MaskPrediction:
        """Masks of the boxes of all images, each of its own class; `labels` int64 (R,) from 1.

        shared: the module between pool and heads, which is owned by someone else
        """
        said = self._say(features, boxes, labels, sizes_hw, shared=shared, count=len(self.heads))
        return MaskPrediction(torch.stack([one.masks[-1].float().sigmoid() for one in said]).mean(dim=0))

    def losses(
        self, features: Features, found: Positives, sizes_hw: SizesHW, *, shared: nn.Module, stage: int = 0
    ) -> dict[str, Tensor]:
        """Losses of the head of that stage on regions that show objects; 0 with gradients where there are none."""
        labels = torch.cat(found.labels)
        said = self._say(features, found.boxes, labels, sizes_hw, shared=shared, count=stage + 1)[-1]
        if len(labels) == 0:  # keeps the branch in the graph, so that every rank reduces the same gradients
            return {"loss_mask": torch.stack([one.float().sum() for one in said.masks]).sum() * 0}
        return {"loss_mask": torch.stack([self.loss(one.float(), found.targets) for one in said.masks]).sum()}

    def _say(
        self,
        features: Features,
        boxes: list[Tensor],
        labels: Tensor,
        sizes_hw: SizesHW,
        *,
        shared: nn.Module,
        count: int,
    ) -> list[MaskLogits]:
        """What the first `count` heads say."""
        regions = self.pool(features, boxes, sizes_hw)
        regions = shared(regions) if self.takes_shared else regions
        return [head(regions, labels) for head in list(self.heads)[:count]]
