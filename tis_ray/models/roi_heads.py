"""The second stage of Mask R-CNN (He et al. 2017): classify and refine boxes, then segment them.

torchvision's `RoIHeads` supplies sampling, box losses and post-processing; the mask branch is ours, because
torchvision's works on full-frame masks in training and forgets the patch's own frame in testing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.ops import MultiScaleRoIAlign

from tis_ray.models.ignore import without_ignored
from tis_ray.models.roi_levels import LevelRule, fpn_levels
from tis_ray.models.targets import Target


class Detections(NamedTuple):
    """What one image yields, in the network frame, best first.

    boxes: (N, 4) xyxy; scores: (N,) 0..1; labels: int64 (N,) from 1; mask_probs: (N, M, M) 0..1 or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_probs: Tensor | None


class MaskBranch(nn.Module):
    """RoI pooling, mask head and per-class mask predictor: RoIs to logits (R, classes, M, M)."""

    def __init__(self, pool: nn.Module, head: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.head = head
        self.predictor = predictor

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], labels: Tensor, sizes_hw: list[tuple[int, int]]
    ) -> Tensor:
        """Logits (R, M, M) of each RoI's own class; `labels` int64 (R,) over all images."""
        logits = self.predictor(self.head(self.pool(features, boxes, sizes_hw)))  # (R, classes, M, M)
        return logits[torch.arange(len(labels), device=labels.device), labels]


class BoxMaskHeads(RoIHeads):
    """torchvision's RoI heads with an optional `MaskBranch` fed by packed crops."""

    def __init__(self, *, mask_branch: MaskBranch | None, **box_parts: object) -> None:
        super().__init__(**box_parts)
        self.mask_branch = mask_branch

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """Detections of each image when testing, losses when training; the other one is empty."""
        if self.training:
            return [], self._losses(features, proposals, image_shapes, targets)
        logits, deltas = self._boxes(features, proposals, image_shapes)
        found = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        return self._with_masks(features, *found, image_shapes), {}

    def _boxes(
        self, features: dict[str, Tensor], rois: list[Tensor], sizes_hw: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, rois, sizes_hw)))
        return logits.float(), deltas.float()

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        sizes_hw: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        rois, matched, labels, deltas = self.select_training_samples(proposals, targets)
        losses = self._box_losses(*self._boxes(features, rois, sizes_hw), labels, deltas)
        if self.mask_branch is not None:
            losses["loss_mask"] = self._mask_loss(features, rois, matched, labels, sizes_hw, targets)
        return losses

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """torchvision's sampling, except that no RoI in an ignore region is a negative.

        For each image R RoIs (R, 4), the ground truth (R,) that each is matched with, its label (R,) and its box
        deltas (R, 4).
        """
        boxes = [target["boxes"].to(proposals[0].dtype) for target in targets]
        candidates = self.add_gt_proposals(proposals, boxes)
        matched, labels = self.assign_targets_to_proposals(candidates, boxes, [target["labels"] for target in targets])
        labels = [
            without_ignored(label, box, target["ignore"])
            for label, box, target in zip(labels, candidates, targets, strict=True)
        ]
        chosen = self.subsample(labels)
        rois, matched, labels = (
            [values[keep] for values, keep in zip(each, chosen, strict=True)] for each in (candidates, matched, labels)
        )
        wanted = [  # an image without objects has RoIs all the same, matched with a box that no loss looks at
            (box if len(box) else box.new_zeros((1, 4)))[match] for box, match in zip(boxes, matched, strict=True)
        ]
        return rois, matched, labels, self.box_coder.encode(wanted, rois)

    def _box_losses(
        self, logits: Tensor, deltas: Tensor, labels: list[Tensor], wanted_deltas: list[Tensor]
    ) -> dict[str, Tensor]:
        if len(logits) == 0:  # ignore regions left no RoI; 0 keeps the head in the graph
            return {"loss_classifier": logits.sum() * 0, "loss_box_reg": deltas.sum() * 0}
        loss_class, loss_box = fastrcnn_loss(logits, deltas, labels, wanted_deltas)
        return {"loss_classifier": loss_class, "loss_box_reg": loss_box}

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        rois: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
        sizes_hw: list[tuple[int, int]],
        targets: list[Target],
    ) -> Tensor:
        """Mean binary cross entropy on the logits of the positive RoIs' own classes."""
        positive = [torch.where(label > 0)[0] for label in labels]
        boxes = [roi[keep] for roi, keep in zip(rois, positive, strict=True)]
        own = torch.cat([label[keep] for label, keep in zip(labels, positive, strict=True)])
        logits = self.mask_branch(features, boxes, own, sizes_hw)
        if len(logits) == 0:  # keeps the branch in the graph, so that every rank reduces the same gradients
            return logits.sum() * 0
        wanted = torch.cat(
            [
                target["masks"].sample(box, match[keep], logits.shape[-1])
                for target, box, match, keep in zip(targets, boxes, matched, positive, strict=True)
            ]
        )
        return F.binary_cross_entropy_with_logits(logits.float(), wanted.float())

    def _with_masks(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        scores: list[Tensor],
        labels: list[Tensor],
        sizes_hw: list[tuple[int, int]],
    ) -> list[Detections]:
        if self.mask_branch is None:
            return [Detections(*one, None) for one in zip(boxes, scores, labels, strict=True)]
        logits = self.mask_branch(features, boxes, torch.cat(labels), sizes_hw)
        probs = logits.float().sigmoid().split([len(one) for one in boxes])
        return [Detections(*one) for one in zip(boxes, scores, labels, probs, strict=True)]


class PyramidRoIAlign(MultiScaleRoIAlign):
    """RoIAlign on the pyramid level that a rule of `roi_levels` picks by each RoI's size.

    torchvision guesses the levels' strides from the first batch it sees, and guesses wrong where a tiny image was
    padded to a whole number of strides; here they are given.
    """

    def __init__(
        self,
        output_size: int,
        *,
        levels: LevelRule | None = None,
        strides: tuple[int, ...] = (4, 8, 16, 32),
        sampling_ratio: int = 2,
    ) -> None:
        super().__init__([str(i) for i in range(len(strides))], output_size, sampling_ratio)
        self.scales = [1 / stride for stride in strides]
        self.map_levels = levels or fpn_levels()
