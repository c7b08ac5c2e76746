"""Non-maximum suppression inside groups, with one wait for the device: that for the number of boxes kept."""

import torch
from torch import Tensor
from torchvision.ops import nms


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, *, iou_threshold: float) -> Tensor:
    """Places int64 of the boxes kept, best first; boxes of different groups never suppress each other.

    boxes:  float (N, 4) xyxy; scores: float (N,); groups: int64 (N,) from 0
    valid:  bool (N,); a box that is not counts as absent, without a look at how many there are: a guard in front of
            all others lies exactly where it is put, and so suppresses it

    Groups are laid side by side in float64. In float32 offsets of a thousand classes times the width of a frame would
    cost a small box its last bits, and other boxes would be kept. `iou_threshold` is below 1.
    """
    guard = torch.cat([boxes.new_zeros((1, 2)), boxes.new_ones((1, 2))], dim=1)  # numbers from here would be waited for
    placed = torch.cat([guard, torch.where(valid[:, None], boxes, guard)]).double()
    span = placed.max() - placed.min() + 1
    group = torch.cat([groups.new_zeros(1), torch.where(valid, groups + 1, 0)])
    best_first = torch.cat([scores.new_full((1,), torch.inf), scores])
    kept = nms(placed + (group * span)[:, None], best_first.double(), iou_threshold)
    return kept[1:] - 1
