"""One box head with its last layers: what the second stage of a detector consists of, once or several times over."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tis_ray.models.box_heads import BoxHead
from tis_ray.models.classification import Classifier
from tis_ray.models.deltas import SMOOTH_L1_BETA, decode, encode


class BoxStage(nn.Module):
    """RoI pool, box head, classifier and box layer.

    `regressor` gives each region 4 deltas for all classes or 4 (K + 1), background first; `delta_weights` are what
    deltas are multiplied by to make them about as large as 1.
    """

    def __init__(
        self,
        pool: nn.Module,
        head: BoxHead,
        classifier: Classifier,
        regressor: nn.Linear,
        *,
        delta_weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.pool = pool
        self.head = head
        self.classifier = classifier
        self.regressor = regressor
        self.delta_weights = tuple(delta_weights)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled regions to logits float32 (R, L) and deltas float32 (R, 1, 4) or (R, K + 1, 4)."""
        class_features, box_features = self.head(regions)
        deltas = self.regressor(box_features).float()
        return self.classifier(class_features), deltas.unflatten(1, (-1, 4))

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        rois: Tensor,
        labels: Tensor,
        wanted: Tensor,
        unverified: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Of classes, and of boxes: smooth L1 of the positives' deltas over the number of regions that count.

        rois, wanted: (R, 4) xyxy, each region and the object it should become; labels: int64 (R,) as `Sample` has them;
        unverified: bool (R, K) as `Classifier.loss` has it, or None
        """
        positive = (labels > 0)[:, None]
        targets = encode(wanted, rois, weights=self.delta_weights)
        own = deltas[:, 0] if deltas.shape[1] == 1 else _row_of(deltas, labels.clamp(min=0))
        far = F.smooth_l1_loss(own, targets.where(positive, own.detach()), beta=SMOOTH_L1_BETA, reduction="sum")
        return self.classifier.loss(logits, labels, unverified), far / (labels >= 0).sum().clamp(min=1)

    def refined(self, deltas: Tensor, rois: Tensor) -> Tensor:
        """Boxes (R, 1, 4) for all classes, or (R, K, 4) for each without background; not clipped."""
        boxes = decode(deltas, rois, weights=self.delta_weights)
        return boxes if boxes.shape[1] == 1 else boxes[:, 1:]


def _row_of(values: Tensor, index: Tensor) -> Tensor:
    """`values[r, index[r]]` (R, 4) of values (R, N, 4)."""
    return values[torch.arange(len(values), device=values.device), index]
