"""From what the region proposal network says of its anchors to the proposals of each image (Ren et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tis_ray.models.deltas import decode
from tis_ray.models.nms import grouped_nms
from tis_ray.models.pyramid_align import clipped

DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
MIN_SIDE_PX = 1e-3  # as torchvision has it: what is left of a box beyond the image is no proposal


class Level(NamedTuple):
    """Answers for the N anchors of one level, for B images: places row by row, and at each all of its anchors.

    logits: float32 (B, N) objectness; deltas: float32 (B, N, 4); anchors: float32 (N, 4) xyxy in the network frame.
    """

    logits: Tensor
    deltas: Tensor
    anchors: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BestProposals:
    """The best `pre_nms_top_n` of each level, NMS inside it, and the best `post_nms_top_n` of all levels."""

    pre_nms_top_n: int
    nms_iou: float
    post_nms_top_n: int

    @torch.no_grad()
    def __call__(self, levels: Sequence[Level], sizes_hw: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Boxes float32 (P, 4) xyxy of each image, clipped to its size, best first."""
        logits, boxes = zip(*[self._best_of(level) for level in levels], strict=True)
        numbers = [torch.full_like(best[0], number, dtype=torch.int64) for number, best in enumerate(logits)]
        level = torch.cat(numbers)
        return [
            self._without_doubles(clipped(own, size_hw), best, level)
            for own, best, size_hw in zip(torch.cat(boxes, dim=1), torch.cat(logits, dim=1), sizes_hw, strict=True)
        ]

    def _best_of(self, level: Level) -> tuple[Tensor, Tensor]:
        """Logits (B, K) of the level's best anchors and the boxes (B, K, 4) made of them; no other is decoded."""
        best, index = level.logits.topk(min(self.pre_nms_top_n, level.logits.shape[1]), dim=1)
        deltas = level.deltas.take_along_dim(index[..., None], dim=1)
        boxes = decode(deltas.flatten(0, 1)[:, None], level.anchors[index.flatten()], weights=DELTA_WEIGHTS)
        return best, boxes.view_as(deltas)

    def _without_doubles(self, boxes: Tensor, logits: Tensor, level: Tensor) -> Tensor:
        """Ordered by logit and not by its sigmoid, which is 1 for many of a confident network's."""
        large = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX).all(dim=1)
        return boxes[grouped_nms(boxes, logits, level, large, iou_threshold=self.nms_iou)[: self.post_nms_top_n]]
