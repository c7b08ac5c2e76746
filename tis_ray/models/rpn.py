"""The region proposal network (Ren et al. 2015): where in a picture objects may be.

It computes what torchvision's does, but never waits for the device except in NMS, and decodes no anchor that has no
chance: on a frame of 3384 x 1800 there are three million of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead

from tis_ray.models.anchor_matching import AnchorMatcher
from tis_ray.models.deltas import SMOOTH_L1_BETA, encode
from tis_ray.models.draw import Drawn, draw
from tis_ray.models.ignore import without_ignored
from tis_ray.models.proposals import DELTA_WEIGHTS, BestProposals, Level
from tis_ray.models.targets import Target
from tis_ray.models.unlabelled import without_unlabelled

ANCHORS_AT_ONCE = 2**18  # of which one asks how much of them is ignored; it takes float64


class Float32Head(RPNHead):
    """torchvision's head with float32 answers under autocast.

    Boxes are decoded in the type of the deltas: bfloat16 keeps 8 bits, so that a proposal at x = 3000 would snap to a
    grid of 16 px, larger than many of the objects.
    """

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits (B, A, h, w) and deltas (B, 4A, h, w) of each level."""
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class ProposalNetwork(nn.Module):
    """Anchors, a head that speaks of each of them, and the choice of the best.

    anchors: lays the same anchors in every image of a batch; head: levels to logits and deltas, as `Float32Head` has
    them; matcher: which anchors are to find what. In training `samples_per_image` anchors of each image count, of which
    at most a share of `positive_fraction` is positive. With `unlabelled_iou`, anchors that overlap an unlabelled
    object by as much are not learnt to be background.
    """

    def __init__(
        self,
        anchors: AnchorGenerator,
        head: nn.Module,
        *,
        matcher: AnchorMatcher,
        samples_per_image: int,
        positive_fraction: float,
        nms_iou_train: float,
        nms_iou_test: float,
        pre_nms_top_n_train: int,
        pre_nms_top_n_test: int,
        post_nms_top_n_train: int,
        post_nms_top_n_test: int,
        unlabelled_iou: float | None = None,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.head = head
        self.matcher = matcher
        self.samples_per_image = samples_per_image
        self.max_positives = int(samples_per_image * positive_fraction)
        self.unlabelled_iou = unlabelled_iou
        self.best_in_training = BestProposals(
            pre_nms_top_n=pre_nms_top_n_train, nms_iou=nms_iou_train, post_nms_top_n=post_nms_top_n_train
        )
        self.best_in_testing = BestProposals(
            pre_nms_top_n=pre_nms_top_n_test, nms_iou=nms_iou_test, post_nms_top_n=post_nms_top_n_test
        )

    def forward(
        self, batch: ImageList, features: dict[str, Tensor], targets: list[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals float32 (P, 4) xyxy of each image, best first and detached, and in training the losses."""
        levels = self.levels(batch, list(features.values()))
        if not self.training:
            return self.best_in_testing(levels, batch.image_sizes), {}
        losses = self.losses(levels, targets)  # first, so that the device has work when NMS waits for it
        return self.best_in_training(levels, batch.image_sizes), losses

    def levels(self, batch: ImageList, maps: list[Tensor]) -> list[Level]:
        """What the head says of every anchor."""
        logits, deltas = self.head(maps)
        counts = [one[0].numel() for one in logits]
        anchors = self.anchors(batch, maps)[0].split(counts)
        return [
            Level(logit.permute(0, 2, 3, 1).flatten(1), delta.permute(0, 2, 3, 1).reshape(len(delta), -1, 4), own)
            for logit, delta, own in zip(logits, deltas, anchors, strict=True)
        ]

    def losses(self, levels: Sequence[Level], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Of objectness, the mean binary cross entropy of the drawn anchors; of boxes, smooth L1 over their number.

        Both are 0, with gradients, where ignore regions leave no anchor to learn from.
        """
        anchors = torch.cat([level.anchors for level in levels])
        drawn, wanted = zip(*[self._draw(anchors, target) for target in targets], strict=True)
        index, positive, used = (torch.stack(parts) for parts in zip(*drawn, strict=True))  # (B, S)
        logits = torch.cat([level.logits for level in levels], dim=1).take_along_dim(index, dim=1)
        deltas = torch.cat([level.deltas for level in levels], dim=1).take_along_dim(index[..., None], dim=1)
        count = used.sum().clamp(min=1)
        unlike = F.binary_cross_entropy_with_logits(logits, positive.float(), weight=used.float(), reduction="sum")
        goal = torch.stack(wanted).where(positive[..., None], deltas.detach())
        far = F.smooth_l1_loss(deltas, goal, beta=SMOOTH_L1_BETA, reduction="sum")
        return {"loss_objectness": unlike / count, "loss_rpn_box_reg": far / count}

    def labels(self, anchors: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Labels int64 (A,) 1 positive, 0 negative, -1 neither, and the matched objects int64 (A,).

        A negative that lies in an ignore region is neither, nor, where that is asked for, one that shows an unlabelled
        object.
        """
        labels, matched = self.matcher(anchors, target["boxes"])
        if self.unlabelled_iou is not None:
            labels = without_unlabelled(labels, anchors, target["unlabelled"], iou=self.unlabelled_iou)
        if target["ignore"] is None:
            return labels, matched
        parts = zip(labels.split(ANCHORS_AT_ONCE), anchors.split(ANCHORS_AT_ONCE), strict=True)
        return torch.cat([without_ignored(some, boxes, target["ignore"]) for some, boxes in parts]), matched

    def _draw(self, anchors: Tensor, target: Target) -> tuple[Drawn, Tensor]:
        """S anchors of one image, and the deltas (S, 4) that turn them into their objects."""
        labels, matched = self.labels(anchors, target)
        drawn = draw(labels == 1, labels == 0, size=self.samples_per_image, max_positives=self.max_positives)
        own = anchors[drawn.index]
        boxes = target["boxes"][matched[drawn.index]] if len(target["boxes"]) else own
        return drawn, encode(boxes, own, weights=DELTA_WEIGHTS)
