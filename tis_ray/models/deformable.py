"""Deformable convolution, version 2 (Zhu et al. 2019): every output looks where it has learnt to look, and how much.

With K = 9 taps of a 3x3 kernel, tap k at p_k, and offsets and modulation predicted from the same map:

    y(p) = sum over k of w_k x(p + p_k + offset_k(p)) modulation_k(p)

One convolution of 3 K channels predicts both, of the kernel, stride, padding and dilation of the deformable one:
channels 2k and 2k + 1 are (dy, dx) of tap k in pixels of the map, channel 2 K + k is its modulation before a sigmoid.
It begins at zero: no offsets, and a modulation of 0.5.
"""

from collections.abc import Iterable, Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Conv2d):
    """Maps (B, C_in, H, W) to (B, C_out, H', W') as `nn.Conv2d` of the same options does, in its type and layout.

    With new weights it computes half of what the plain convolution with the same weights does (a bias stays whole).
    `offsets` is the convolution that predicts; without it, weights have the names of a plain convolution's.

    All of it is float32 under autocast too: with 8 bits a place at x = 3000 would be known to 16 px.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        geometry = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        super().__init__(in_channels, out_channels, **geometry, groups=groups, bias=bias)
        self.taps = self.kernel_size[0] * self.kernel_size[1]
        self.offsets = nn.Conv2d(in_channels, 3 * self.taps, **geometry)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """A deformable convolution that computes at first what `conv`, which stays as it is, does.

        Its weights are twice those of `conv`, since the modulation begins at 0.5.
        """
        new = cls(
            conv.in_channels,
            conv.out_channels,
            kernel_size=conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        with torch.no_grad():
            new.weight.copy_(2 * conv.weight)
            if conv.bias is not None:
                new.bias.copy_(conv.bias)
        return new

    def forward(self, values: Tensor) -> Tensor:
        device = values.device.type
        answered = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype
        with torch.autocast(device, enabled=False):
            output = self._exact(values.to(torch.promote_types(values.dtype, torch.float32)))
        return output.to(answered, memory_format=_layout(values))

    def _exact(self, values: Tensor) -> Tensor:
        offsets, logits = self.offsets(values).split([2 * self.taps, self.taps], dim=1)
        return deform_conv2d(
            values,
            # The operator reads outside its memory where an offset is NaN; what is NaN shows through the modulation.
            offsets.nan_to_num(),
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=logits.sigmoid(),
        )


def _layout(values: Tensor) -> torch.memory_format:
    """That of `values`; the operator itself answers in the contiguous one."""
    channels_last = not values.is_contiguous() and values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def fitted(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """`state`, weights by name, for a network of `names` in which other convolutions are deformable.

    As in `DeformableConv2d.of`, a plain convolution's weight is doubled for a deformable one; a deformable one's is
    halved for a plain one, which looks where that began to. Nothing is changed in place.
    """
    own, theirs = _deformable(names), _deformable(state)
    factors = {**dict.fromkeys(own - theirs, 2.0), **dict.fromkeys(theirs - own, 0.5)}
    return {name: value * factors[name] if name in factors else value for name, value in state.items()}


def _deformable(names: Iterable[str]) -> set[str]:
    """The names of the weights of deformable convolutions: those of offsets stand beside them."""
    suffix = "offsets.weight"
    return {name.removesuffix(suffix) + "weight" for name in names if f".{name}".endswith(f".{suffix}")}
