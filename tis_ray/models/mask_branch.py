"""The mask branch of Mask R-CNN (He et al. 2017), once or once a box stage (Hybrid Task Cascade, Chen et al. 2019)."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tis_ray.models.area_ratio import AreaRatio
from tis_ray.models.boundary import boundary_loss
from tis_ray.models.mask_heads import MaskHead, MaskLogits
from tis_ray.models.mask_iou import MaskIoU
from tis_ray.models.mask_losses import MaskLoss
from tis_ray.models.positives import Positives
from tis_ray.models.pyramid_align import Features, SizesHW
from tis_ray.models.roi_pooling import RoiPool


class MaskPrediction(NamedTuple):
    """Masks of R boxes: `probs` float32 (R, M, M) in 0..1 over each box.

    `quality` float32 (R,) in 0..1 is the IoU that each is said to have with its object; None where nothing says so.
    """

    probs: Tensor
    quality: Tensor | None = None


class _Seen(NamedTuple):
    """What mask heads look at: regions (R, C, S, S), and by name what some heads are given beside them."""

    regions: Tensor
    more: dict[str, Tensor]


class MaskBranch(nn.Module):
    """RoI pool, mask heads and mask loss.

    heads:            one, or one for each box stage; then the mask is the mean of what all say
    flows:            the layers by which each head after the first sees the features of the one before, added to the
                      region; none where heads know nothing of each other
    finest:           pools from the pyramid's finest level for heads that ask for that; None for others
    area_ratio:       picks the level of each region by how much of its box the mask fills; None for the pool's rule
    rescore:          predicts how well masks fit, or None; of several heads it sees the mean, as it is predicted
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
        finest: RoiPool | None = None,
        area_ratio: AreaRatio | None = None,
        rescore: MaskIoU | None = None,
        takes_shared: bool,
        only_in_training: bool,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.heads = nn.ModuleList(heads)
        self.flows = nn.ModuleList(flows)
        self.finest = finest
        self.loss = loss
        self.area_ratio = area_ratio
        self.rescore = rescore
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
        every = range(len(self.heads))
        seen = self._look(features, boxes, sizes_hw, shared=shared)
        probs = _mean_probs(self._say(seen, labels, stages=every))
        if self.area_ratio is not None:
            levels = self.area_ratio.levels(boxes, self.area_ratio.of_masks(probs, labels))
            seen = seen._replace(regions=self._regions(features, boxes, sizes_hw, shared=shared, levels=levels))
            probs = _mean_probs(self._say(seen, labels, stages=every))
        quality = None if self.rescore is None else self.rescore(seen.regions, probs, labels).clamp(0, 1)
        return MaskPrediction(probs, quality)

    def rescores(self, stage: int) -> bool:
        """Whether a loss of the predicted fit is among that stage's: the last one's, whose masks are all there."""
        return self.rescore is not None and stage == len(self.heads) - 1

    def losses(
        self, features: Features, found: Positives, sizes_hw: SizesHW, *, shared: nn.Module, stage: int = 0
    ) -> dict[str, Tensor]:
        """Losses of the head of that stage on regions that show objects; 0 with gradients where there are none."""
        labels = torch.cat(found.labels)
        levels = None if self.area_ratio is None else self.area_ratio.levels(found.boxes, found.ratios)
        seen = self._look(features, found.boxes, sizes_hw, shared=shared, levels=levels)
        first = 0 if self.flows or self.rescores(stage) else stage
        stages = range(first, stage + 1)
        every = deque(self._say(seen, labels, stages=stages), maxlen=None if self.rescores(stage) else 1)
        said = every[-1]
        losses = {"loss_mask": _summed(self.loss, said.masks, found.targets)}
        if said.boundary is not None:
            losses["loss_boundary"] = _summed(boundary_loss, (said.boundary,), found.targets)
        if self.rescores(stage):
            losses["loss_mask_iou"] = self.rescore.loss(
                seen.regions, _mean_probs(every).detach(), labels, targets=found.targets, inside=found.inside
            )
        return losses

    def _look(
        self,
        features: Features,
        boxes: list[Tensor],
        sizes_hw: SizesHW,
        *,
        shared: nn.Module,
        levels: Tensor | None = None,
    ) -> _Seen:
        """What heads see of the boxes; `levels` int64 (R,) in place of the pool's rule."""
        regions = self._regions(features, boxes, sizes_hw, shared=shared, levels=levels)
        return _Seen(regions, {} if self.finest is None else {"finest": self.finest(features, boxes, sizes_hw)})

    def _regions(
        self, features: Features, boxes: list[Tensor], sizes_hw: SizesHW, *, shared: nn.Module, levels: Tensor | None
    ) -> Tensor:
        regions = self.pool(features, boxes, sizes_hw, levels=levels)
        return shared(regions) if self.takes_shared else regions

    def _say(self, seen: _Seen, labels: Tensor, *, stages: range) -> Iterator[MaskLogits]:
        """What the heads of these stages say of it, one after the other."""
        given = seen.regions
        for stage in stages:
            said = self.heads[stage](given, labels, **seen.more)
            yield said
            if self.flows and stage + 1 in stages:
                given = seen.regions + self.flows[stage](said.features)


def _mean_probs(said: Iterable[MaskLogits]) -> Tensor:
    """The mean mask of several heads, float32 (R, M, M) in 0..1."""
    return torch.stack([one.masks[-1].float().sigmoid() for one in said]).mean(dim=0)


def _summed(loss: MaskLoss, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
    """The losses of all logits; 0 without regions, in the graph, so that every rank reduces the same gradients."""
    if len(targets) == 0:
        return torch.stack([one.float().sum() for one in logits]).sum() * 0
    return torch.stack([loss(one.float(), targets) for one in logits]).sum()


def information_flow(channels: int, region_channels: int) -> nn.Conv2d:
    """What brings the features of one mask head, of `channels`, to the regions of the next."""
    layer = nn.Conv2d(channels, region_channels, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
