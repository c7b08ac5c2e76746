"""The mask branch of Mask R-CNN (He et al. 2017), once or once a box stage (Hybrid Task Cascade, Chen et al. 2019)."""

from collections import deque
from collections.abc import Iterator, Sequence
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
    flows:            the layers by which each head after the first sees the features of the one before, added to the
                      region; none where heads know nothing of each other
    takes_shared:     whether regions go through the shared stage before the heads
    only_in_training: masks teach the features and are not predicted (MegDetV2's detectors)
    """

    def __init__(
        self,
        pool: RoiPool,
        heads: Sequence[MaskHead],
        loss: MaskLoss,
        *,
        flows: Sequence[nn.Module] = (),
        takes_shared: bool,
        only_in_training: bool,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.heads = nn.ModuleList(heads)
        self.flows = nn.ModuleList(flows)
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
        said = self._say(features, boxes, labels, sizes_hw, shared=shared, stages=range(len(self.heads)))
        return MaskPrediction(torch.stack([one.masks[-1].float().sigmoid() for one in said]).mean(dim=0))

    def losses(
        self, features: Features, found: Positives, sizes_hw: SizesHW, *, shared: nn.Module, stage: int = 0
    ) -> dict[str, Tensor]:
        """Losses of the head of that stage on regions that show objects; 0 with gradients where there are none."""
        labels = torch.cat(found.labels)
        stages = range(0 if self.flows else stage, stage + 1)
        (said,) = deque(self._say(features, found.boxes, labels, sizes_hw, shared=shared, stages=stages), maxlen=1)
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
        stages: range,
    ) -> Iterator[MaskLogits]:
        """What the heads of these stages say, one after the other."""
        regions = self.pool(features, boxes, sizes_hw)
        regions = shared(regions) if self.takes_shared else regions
        given = regions
        for stage in stages:
            said = self.heads[stage](given, labels)
            yield said
            if self.flows and stage + 1 in stages:
                given = regions + self.flows[stage](said.features)


def information_flow(channels: int, region_channels: int) -> nn.Conv2d:
    """What brings the features of one mask head, of `channels`, to the regions of the next."""
    layer = nn.Conv2d(channels, region_channels, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
