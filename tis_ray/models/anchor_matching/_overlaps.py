"""How much every anchor overlaps every object, a stretch of anchors at a time.

A frame of 3384 x 1800 has three million anchors: their overlaps with thirty objects would take 365 MB at once, and
several times that on the way there.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tis_ray.errors import ConfigError

PAIRS_AT_ONCE = 2**23


def stretches(anchors: Tensor, boxes: Tensor, *, pairs: int = PAIRS_AT_ONCE) -> Iterator[Tensor]:
    """IoU float (G, C) of the G objects with C anchors after the other, `pairs` of them or few more at a time.

    anchors: float (A, 4); boxes: float (G, 4), G at least 1; both xyxy
    """
    for some in anchors.split(max(1, pairs // len(boxes))):
        yield overlaps(boxes, some)


def overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """IoU float (G, C) of `boxes` (G, 4) with `anchors` (C, 4), xyxy.

    The numbers are those of torchvision's `box_iou`, which looks at both axes at once and takes six times as long.
    """
    x1, y1, x2, y2 = boxes[:, :, None].unbind(dim=1)
    left, top, right, bottom = anchors.unbind(dim=1)
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
    inside = width.mul_(height)
    both = torch.add((x2 - x1) * (y2 - y1), (right - left) * (bottom - top), out=height)
    return inside.div_(both.sub_(inside))


def all_negative(anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and matched objects of an image without objects, int64 (A,)."""
    nothing = anchors.new_zeros(len(anchors)).long()
    return nothing, nothing


def check_bounds(*, positive: float, negative: float) -> None:
    """Raise `ConfigError` unless the IoU below which anchors are negative is at most that of positives."""
    if negative > positive:
        raise ConfigError(
            f"detector.rpn.matching: negative: expected at most positive, which is {positive:g}; got {negative:g}"
        )
