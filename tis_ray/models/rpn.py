"""Parts of the region proposal network (Ren et al. 2015) that differ from torchvision's."""

from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from tis_ray.models.ignore import without_ignored
from tis_ray.models.targets import Target


class Float32Head(RPNHead):
    """torchvision's head with float32 answers under autocast.

    torchvision decodes boxes in the type of the deltas: bfloat16 keeps 8 bits, so that a proposal at x = 3000 would
    snap to a grid of 16 px, larger than many of the objects.
    """

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits (B, A, h, w) and deltas (B, 4A, h, w) of each level."""
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's network, which learns no background from ignore regions."""

    _ignoring = False  # whether the batch at hand has such regions: else no look at the labels, which waits for a GPU

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels float (A,) of each image, 1 positive, 0 negative, -1 neither, and the matched boxes (A, 4)."""
        self._ignoring = any(target["ignore"] is not None for target in targets)
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        kept = [
            without_ignored(label, boxes, target["ignore"])
            for label, boxes, target in zip(labels, anchors, targets, strict=True)
        ]
        return kept, matched

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Losses of objectness and boxes; 0 where ignore regions leave no anchor to learn from."""
        if self._ignoring and all(bool((label < 0).all()) for label in labels):
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
