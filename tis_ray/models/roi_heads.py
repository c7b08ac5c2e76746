"""The second stage: classify and refine regions, once (Fast R-CNN) or in a cascade, then segment them (Mask R-CNN).

In training the regions of each image are chosen once; a cascade's later heads (Cai and Vasconcelos 2018) learn from the
same ones as the head before has refined them, against a stricter bound.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from tis_ray.models.box_stage import BoxStage
from tis_ray.models.ignore import IGNORED_SHARE, without_ignored
from tis_ray.models.mask_branch import MaskBranch, MaskPrediction
from tis_ray.models.positives import Regions, positives
from tis_ray.models.postprocess import Postprocess
from tis_ray.models.pyramid_align import Features, SizesHW, clipped
from tis_ray.models.roi_sampling import Candidates, RoiSampler
from tis_ray.models.targets import Target
from tis_ray.models.unlabelled import shows_unlabelled, without_unlabelled


class Detections(NamedTuple):
    """What one image yields, in the network frame, best first.

    boxes: (N, 4) xyxy; scores: (N,) 0..1; labels: int64 (N,) from 1; mask_probs: (N, M, M) 0..1 or None;
    mask_quality: (N,) 0..1, the IoU that masks are said to have with their objects, or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_probs: Tensor | None
    mask_quality: Tensor | None = None


class RoiHeads(nn.Module):
    """Box stages in a row and an optional mask branch over the proposals of a batch.

    shared:           what all of them begin with, between RoI pool and head; `nn.Identity` where nothing
    sampler:          chooses `samples_per_image` regions, at most `positive_fraction` of them positive
    ious:             the bound of a positive, for each stage
    loss_weights:     of each stage's losses
    scale_gradients:  divide what the stages send back into the pyramid, and to a context's convolution before
                      them, by their number
    """

    def __init__(
        self,
        stages: Sequence[BoxStage],
        mask_branch: MaskBranch | None,
        *,
        shared: nn.Module,
        sampler: RoiSampler,
        samples_per_image: int,
        positive_fraction: float,
        ious: Sequence[float],
        loss_weights: Sequence[float],
        scale_gradients: bool,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.mask_branch = mask_branch
        self.shared = shared
        self.sampler = sampler
        self.samples_per_image = samples_per_image
        self.max_positives = int(samples_per_image * positive_fraction)
        self.ious = tuple(ious)
        self.loss_weights = tuple(loss_weights)
        self.gradient_scale = 1 / len(stages) if scale_gradients else 1.0
        self.postprocess = postprocess

    def forward(
        self,
        features: Features,
        proposals: list[Tensor],
        sizes_hw: SizesHW,
        targets: list[Target] | None = None,
        *,
        masks: bool = True,
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """Detections of each image when testing, losses when training; the other one is empty.

        Without `masks` the mask branch is left out when testing.
        """
        if self.training:
            return [], self._losses(features, proposals, sizes_hw, targets)
        return self._detect(features, proposals, sizes_hw, masks=masks), {}

    # ------------------------------------------------------------------------------------------- Training

    def _losses(
        self, features: Features, proposals: list[Tensor], sizes_hw: SizesHW, targets: list[Target]
    ) -> dict[str, Tensor]:
        chosen = [self.choose(boxes, target) for boxes, target in zip(proposals, targets, strict=True)]
        losses, regions, unverified = {}, chosen, _unverified(chosen, targets)
        for number, stage in enumerate(self.stages):
            rois = torch.cat([one.boxes for one in regions])
            wanted = torch.cat([_objects(t)[one.matched] for t, one in zip(targets, regions, strict=True)])
            logits, deltas = self._look(stage, features, [one.boxes for one in regions], sizes_hw)
            labels = torch.cat([one.labels for one in regions])
            found = stage.losses(logits, deltas, rois, labels, wanted, unverified)
            for name, loss in zip(("loss_classifier", "loss_box_reg"), found, strict=True):
                losses[_numbered(name, number)] = loss * self.loss_weights[number]
            if number + 1 < len(self.stages) or self.interleaved:
                refined = self._split(stage.refined(deltas.detach(), rois)[:, 0], regions, sizes_hw)
            if self.interleaved:
                shown = self._relabelled(refined, regions, targets, self.ious[number])
                masked = self._mask_losses(features, shown, sizes_hw, targets, stage=number)
                losses |= {_numbered(name, number): loss * self.loss_weights[number] for name, loss in masked.items()}
            if number + 1 < len(self.stages):
                regions = self._relabelled(refined, regions, targets, self.ious[number + 1])
        if self.mask_branch is not None and not self.interleaved:
            losses |= self._mask_losses(features, chosen, sizes_hw, targets)
        return losses

    @property
    def interleaved(self) -> bool:
        """Whether each box stage has a mask head of its own, which learns on the boxes that the stage has refined."""
        return self.mask_branch is not None and len(self.mask_branch.heads) > 1

    @torch.no_grad()
    def choose(self, proposals: Tensor, target: Target) -> Regions:
        """Training regions of one image among its `proposals` (P, 4), best first, and its objects' own boxes."""
        boxes = torch.cat([proposals, target["boxes"].to(proposals.dtype)])
        overlaps, matched = _best_objects(boxes, target)
        ignored = shows_unlabelled(boxes, target["unlabelled"])
        if target["ignore"] is not None:
            ignored = ignored | (target["ignore"].shares(boxes) >= IGNORED_SHARE)
        labels = _labels(target)[matched]
        sample = self.sampler(
            Candidates(boxes, overlaps, matched, labels, ignored, target["labels"]),
            size=self.samples_per_image,
            max_positives=self.max_positives,
            positive_iou=self.ious[0],
        )
        return Regions(boxes[sample.index], matched[sample.index], sample.labels)

    @staticmethod
    def _relabelled(
        boxes: list[Tensor], before: list[Regions], targets: list[Target], positive_iou: float
    ) -> list[Regions]:
        """The regions as one stage has refined them, judged anew; places that did not count stay so."""
        regions = []
        for box, old, target in zip(boxes, before, targets, strict=True):
            overlaps, matched = _best_objects(box, target)
            positive = (overlaps >= positive_iou) & (overlaps > 0)  # a bound of 0 takes no box without area
            found = torch.where(positive, _labels(target)[matched], 0)
            labels = without_ignored(torch.where(old.labels < 0, -1, found), box, target["ignore"])
            labels = without_unlabelled(labels, box, target["unlabelled"])
            regions.append(Regions(box, matched, labels))
        return regions

    def _mask_losses(
        self, features: Features, regions: list[Regions], sizes_hw: SizesHW, targets: list[Target], *, stage: int = 0
    ) -> dict[str, Tensor]:
        branch = self.mask_branch
        found = positives(regions, targets, size=branch.size, most=self.max_positives, inside=branch.rescores(stage))
        return branch.losses(features, found, sizes_hw, shared=self.shared, stage=stage)

    # -------------------------------------------------------------------------------------------- Testing

    def _detect(
        self, features: Features, proposals: list[Tensor], sizes_hw: SizesHW, *, masks: bool
    ) -> list[Detections]:
        boxes, scores = self._scored(features, proposals, sizes_hw)
        found = [self.postprocess(*one) for one in zip(boxes, scores, sizes_hw, strict=True)]
        if not masks or self.mask_branch is None or self.mask_branch.only_in_training:
            return [Detections(*one, None) for one in found]
        boxes, _, labels = (list(each) for each in zip(*found, strict=True))
        segmented = self.segment(features, boxes, labels, sizes_hw)
        return [Detections(*one, *mask) for one, mask in zip(found, segmented, strict=True)]

    def segment(
        self, features: Features, boxes: list[Tensor], labels: list[Tensor], sizes_hw: SizesHW
    ) -> list[MaskPrediction]:
        """The masks of each image's boxes (R_i, 4) in the network frame, of the classes int64 (R_i,) from 1.

        Of a detection's own box and class they are its own mask. Needs a mask branch.
        """
        said = self.mask_branch(features, boxes, torch.cat(labels), sizes_hw, shared=self.shared)
        counts = [len(one) for one in boxes]
        parts = [[None] * len(counts) if values is None else values.split(counts) for values in said]
        return [MaskPrediction(*part) for part in zip(*parts, strict=True)]

    def _scored(
        self, features: Features, proposals: list[Tensor], sizes_hw: SizesHW
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each image's boxes (R, K or 1, 4) by the last stage and scores (R, K), the mean of all stages'."""
        rois, scores = proposals, []
        for number, stage in enumerate(self.stages):
            logits, deltas = self._look(stage, features, rois, sizes_hw)
            scores.append(stage.classifier.scores(logits))
            refined = stage.refined(deltas, torch.cat(rois))
            if number + 1 < len(self.stages):
                rois = self._split(refined[:, 0], rois, sizes_hw)
        counts = [len(one) for one in proposals]
        mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
        return list(refined.split(counts)), list(mean.split(counts))

    # --------------------------------------------------------------------------------------------- Both

    def _look(
        self, stage: BoxStage, features: Features, rois: list[Tensor], sizes_hw: SizesHW
    ) -> tuple[Tensor, Tensor]:
        regions = stage.pool(features, rois, sizes_hw)
        if self.gradient_scale != 1 and regions.requires_grad:
            regions.register_hook(lambda gradient: gradient * self.gradient_scale)
        return stage(self.shared(regions))

    @staticmethod
    def _split(boxes: Tensor, like: Sequence[Regions] | Sequence[Tensor], sizes_hw: SizesHW) -> list[Tensor]:
        """The boxes of all images, clipped, image by image."""
        counts = [len(one.boxes if isinstance(one, Regions) else one) for one in like]
        return [clipped(one, size) for one, size in zip(boxes.split(counts), sizes_hw, strict=True)]


def _best_objects(boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The largest overlap (N,) of each box with an object, and which one that is, int64 (N,); 0s without objects."""
    if len(target["boxes"]) == 0:
        return boxes.new_zeros(len(boxes)), target["labels"].new_zeros(len(boxes))
    return box_iou(boxes, target["boxes"].to(boxes.dtype)).max(dim=1)


def _objects(target: Target) -> Tensor:
    """The objects' boxes (G, 4); one that nothing looks at where there are none, so that there is a row to read."""
    return target["boxes"] if len(target["boxes"]) else target["boxes"].new_zeros((1, 4))


def _labels(target: Target) -> Tensor:
    """The objects' classes (G,), from 1; background where there are none."""
    return target["labels"] if len(target["labels"]) else target["labels"].new_zeros(1)


def _unverified(regions: list[Regions], targets: list[Target]) -> Tensor | None:
    """Of each region the classes of which its image may hold more objects, bool (R, K); None where no image's may."""
    known = [target["unverified"] for target in targets]
    some = next((one for one in known if one is not None), None)
    if some is None:
        return None
    rows = [torch.zeros_like(some) if one is None else one for one in known]
    return torch.cat([row.expand(len(one.labels), -1) for row, one in zip(rows, regions, strict=True)])


def _numbered(loss: str, stage: int) -> str:
    """The name of a stage's loss; the first stage's has no number."""
    return loss if stage == 0 else f"{loss}_{stage + 1}"
