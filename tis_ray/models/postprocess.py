"""From scored boxes to one image's detections: threshold, NMS of each class, and the best of what is left."""

from dataclasses import dataclass

from torch import Tensor

from tis_ray.models.nms import grouped_nms
from tis_ray.models.pyramid_align import clipped
from tis_ray.models.waits import waiting_is_free

MIN_SIDE_PX = 1e-2  # as torchvision has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Postprocess:
    """The settings of `config.BoxSection` that decide what of one image is reported."""

    score_threshold: float
    nms_iou: float
    max_candidates: int
    max_instances: int

    def __call__(self, boxes: Tensor, scores: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4) xyxy inside the image, scores (N,) and labels int64 (N,) from 1, best first.

        boxes: (R, K, 4) refined for each class, or (R, 1, 4) for all of them; scores: (R, K). A pair of region and
        class is a candidate where its score exceeds the threshold; the `max_candidates` best of them enter NMS.
        """
        num_classes = scores.shape[1]
        best, place = scores.flatten().topk(self._count(scores))
        region, label = place // num_classes, place % num_classes
        chosen = clipped(boxes[region, label if boxes.shape[1] > 1 else 0], size_hw)
        large = ((chosen[:, 2:] - chosen[:, :2]) >= MIN_SIDE_PX).all(dim=1)
        valid = large & (best > self.score_threshold)
        kept = grouped_nms(chosen, best, label, valid, iou_threshold=self.nms_iou)[: self.max_instances]
        return chosen[kept], best[kept], label[kept] + 1

    def _count(self, scores: Tensor) -> int:
        """How many candidates are sorted; where it costs no wait, no more than exceed the threshold."""
        count = min(self.max_candidates, scores.numel())
        if waiting_is_free(scores.device):
            count = min(count, int((scores > self.score_threshold).sum()))
        return count
