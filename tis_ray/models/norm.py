"""Normalisation layers: of necks and heads by the name a recipe gives them, and frozen ones of backbones."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tis_ray.config import Norm

GROUP_COUNTS = (32, 16, 8, 4, 2, 1)


def norm_layer(norm: Norm | None) -> Callable[[int], nn.Module] | None:
    """What makes a layer for a number of channels; None stands for no normalisation."""
    if norm is None:
        return None
    return {"batch": nn.BatchNorm2d, "sync": SyncBatchNorm2d, "group": group_norm}[norm]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of the batches of all workers of a run (MegDet, Peng et al. 2018).

    On a GPU it is PyTorch's, which waits for the other workers in every layer: all must come by equally often. In
    one process, in evaluation and on a CPU, where PyTorch has none, it is plain batch normalisation: of several
    workers on CPUs each normalises by its own batch. Weights and statistics have the names of batch normalisation's.
    """

    # What PyTorch's forward pass asks of its own layer. This one is no subclass of that, since
    # DistributedDataParallel refuses every such layer on a CPU.
    process_group = None
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, values: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of the same shape, type and layout."""
        return super().forward(values) if values.device.type == "cpu" else nn.SyncBatchNorm.forward(self, values)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He 2018) of `num_groups` groups."""
    return nn.GroupNorm(num_groups(channels), channels)


def num_groups(channels: int) -> int:
    """32, or the largest smaller power of two that divides `channels`."""
    return next(count for count in GROUP_COUNTS if channels % count == 0)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics, scales and shifts are constants, in the precision of what it is given.

    torchvision's multiplies by its float32 constants: under bfloat16 autocast all activations behind it become float32,
    and the next convolution makes a copy in bfloat16 of each. Here they are rounded once, and the backward pass keeps
    nothing of the size of a map.
    """

    def __init__(self, num_features: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, values: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of the same dtype."""
        normalised: Tensor = _Normalised.apply(
            values, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )
        return normalised

    def extra_repr(self) -> str:
        """What is printed between the brackets."""
        return f"{len(self.weight)}, eps={self.eps}"


class _Normalised(torch.autograd.Function):
    """`F.batch_norm` in evaluation, whose own backward pass would keep the input for gradients that nobody needs."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(weight * (variance + eps).rsqrt())
        return F.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return gradient * scale.to(gradient.dtype)[:, None, None], None, None, None, None, None
