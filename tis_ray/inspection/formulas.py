"""What an operation costs, by its shapes, where PyTorch's counter does not know it: torchvision's, and weighted sums.

A multiplication with its addition counts as two floating point operations, as in PyTorch's counter. What a kernel
takes for itself are bytes beside its result, as torchvision's ones for CUDA take them.
"""

from math import prod
from typing import Any

import torch
import torchvision.ops  # noqa: F401  registers its operations
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count

ROI_ALIGN = torch.ops.torchvision.roi_align
DEFORM_CONV = torch.ops.torchvision.deform_conv2d
NMS = torch.ops.torchvision.nms
WEIGHTED_SUMS = (torch.ops.aten._embedding_bag, torch.ops.aten._embedding_bag_forward_only)
BILINEAR = 8  # a value between four pixels: four multiplications, each with its addition
MOST_IMAGES_AT_ONCE = 32  # of torchvision's deformable convolution

Shape = torch.Size


def roi_align_flops(
    maps: Shape, rois: Shape, _scale: float, height: int, width: int, sampling_ratio: int, *_: Any, **_out: Any
) -> int:
    """Points read for each cell; one where their number depends on the region's size."""
    return rois[0] * maps[1] * height * width * max(sampling_ratio, 1) ** 2 * BILINEAR


def weighted_sum_flops(rows: Shape, index: Shape, *_: Any, **_out: Any) -> int:
    """Each row that is gathered is multiplied and added; a value between four pixels has four."""
    return prod(index) * rows[1] * 2


def roi_align_workspace(maps: Tensor, *_: Any) -> int:
    """Bytes of the copy of maps that are not laid out channel by channel."""
    return _copied(maps)


def deform_conv_flops(images: Shape, weight: Shape, *_inputs: Any, out_shape: Shape, **_: Any) -> int:
    """The convolution, and its inputs read between pixels, once for all output channels."""
    reads = images[0] * images[1] * prod(weight[2:]) * prod(out_shape[2:])
    return conv_flop_count(list(images), list(weight), list(out_shape)) + reads * BILINEAR


def deform_conv_workspace(images: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, *_: Any) -> int:
    """Bytes of the inputs laid out for every place of the result, of a second result, and of copies as above."""
    places = prod(offset.shape[2:])
    most = min(len(images), MOST_IMAGES_AT_ONCE)
    at_once = max((n for n in range(1, most + 1) if len(images) % n == 0), default=0)
    columns = images.shape[1] * prod(weight.shape[2:]) * at_once * places
    second = len(images) * weight.shape[0] * places
    return (columns + second) * images.element_size() + sum(_copied(one) for one in (images, offset, mask))


def _copied(values: Tensor) -> int:
    return 0 if values.is_contiguous() else values.nbytes
