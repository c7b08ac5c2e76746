"""Multi-scale subnetwork (Linh and Arai): regions cropped at several resolutions, each seen by a convolution.

A branch crops each region to a multiple of the pool's side, the paper's to 14, 28 and 56. A 1 x 1 convolution, a norm
and a ReLU follow, then the mean over what falls into each cell; the branches side by side go through a last
convolution and a ReLU. The paper names neither activations nor the last kernel: without a ReLU before the means, each
branch would be RoIAlign with 1, 4 or 16 samples a cell.

A convolution of 1 x 1 without bias gives the same before bilinear sampling as after it, so it is applied to the maps,
once, and regions are cropped from what it makes of them.

`align` says where a region of n x n is read. `cell`: at the centres of its n x n cells, so that all branches see the
same cells. `tf`: from corner to corner, as the `crop_and_resize` of TensorFlow that the paper names, whose boxes are
shares of the map; its n samples lie (n - 1)th parts of the region apart, so that the branches' cells do not lie on each
other, nor quite on the mask's, and the map's last pixel stands for the image's border.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tis_ray.models.norm import norm_layer
from tis_ray.models.pyramid_align import Features, Pyramid, SizesHW
from tis_ray.models.roi_pooling._reading import Places, pixel_rows, places, read

Align = Literal["cell", "tf"]
MOST_VALUES = 2**24  # of the cropped regions that a branch looks at together: 64 MiB of float32, 20 regions of 56 x 56


class Subnet(nn.Module):
    """The subnetwork over the levels of a pyramid; each region is read from the level that the rule picks.

    sizes: of the branches' crops, in multiples of `output_size`
    """

    def __init__(
        self,
        pyramid: Pyramid,
        output_size: int,
        *,
        sizes: tuple[int, ...],
        channels: int,
        norm: Literal["batch", "group"],
        kernel: Literal[1, 3],
        align: Align,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.out_channels = channels
        self.levels = pyramid.levels
        self.strides = pyramid.strides
        self.branches = nn.ModuleList(
            Branch(pyramid.channels, channels, norm, cells=output_size, fineness=size, align=align) for size in sizes
        )
        self.merge = nn.Conv2d(channels * len(sizes), channels, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(self.merge.weight, nonlinearity="relu")
        nn.init.zeros_(self.merge.bias)

    def forward(
        self, features: Features, boxes: list[Tensor], _sizes_hw: SizesHW, *, levels: Tensor | None = None
    ) -> Tensor:
        """Regions (R, C, S, S); `levels` int64 (R,) says where each is read, in the place of the rule."""
        found = places(features, self.strides, boxes, self.levels(boxes) if levels is None else levels)
        pixels = pixel_rows(features, self.strides)
        parts = torch.cat([branch(pixels, found) for branch in self.branches], dim=-1)
        return F.relu(self.merge(parts.to(pixels.dtype).permute(0, 3, 1, 2)))


class Branch(nn.Module):
    """One resolution: regions cropped to `fineness` samples along each side of a cell, and the cells' means.

    Crops exist for a few regions at a time: in training they are computed again in the backward pass. Batch
    normalisation is nevertheless by the mean and variance of all regions of the batch, and float32 under autocast.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        norm: Literal["batch", "group"],
        *,
        cells: int,
        fineness: int,
        align: Align,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(in_channels, channels, bias=False)
        nn.init.kaiming_normal_(self.project.weight, nonlinearity="relu")
        self.norm = norm_layer(norm)(channels)
        self.cells = cells
        self.fineness = fineness
        self.align = align

    def forward(self, pixels: Tensor, found: Places) -> Tensor:
        """The maps' pixels (P, C_in), and where R regions lie among them, to float32 (R, S, S, C)."""
        rows = self.project(pixels)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        side = self.cells * self.fineness
        chunks = list(found.chunks(max(1, MOST_VALUES // (side**2 * rows.shape[1]))))
        affine = self._affine(rows, chunks) if isinstance(self.norm, nn.BatchNorm2d) else ()
        return torch.cat([_forgetful(self._pooled, rows, chunk, *affine) for chunk in chunks])

    def _pooled(self, rows: Tensor, chunk: Places, *affine: Tensor) -> Tensor:
        """Cells (r, S, S, C); `affine` is batch normalisation's scale and shift."""
        values = self._cropped(rows, chunk)
        if affine:
            values = torch.addcmul(affine[1], values, affine[0])
        else:
            values = self.norm(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        cells = (self.cells, self.fineness)
        return F.relu(values).unflatten(2, cells).unflatten(1, cells).mean(dim=(2, 4))

    def _cropped(self, rows: Tensor, chunk: Places) -> Tensor:
        """Regions (r, n, n, C), n samples along each side."""
        count = self.cells * self.fineness
        x = samples(chunk.boxes[:, 0], chunk.boxes[:, 2], chunk.width, count, self.align)
        y = samples(chunk.boxes[:, 1], chunk.boxes[:, 3], chunk.height, count, self.align)
        return read(rows, chunk, x[:, None, :, None], y[:, :, None, None], beyond=0.0 if self.align == "tf" else 1.0)

    # ------------------------------------------------------------------------------- Batch normalisation

    def _affine(self, rows: Tensor, chunks: list[Places]) -> tuple[Tensor, Tensor]:
        """What values are multiplied by, and what is added to them then: (C,) each."""
        norm = self.norm
        mean, variance = norm.running_mean, norm.running_var
        if norm.training and any(len(chunk.boxes) for chunk in chunks):
            mean, variance = self._statistics(rows, chunks)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        return scale, norm.bias - mean * scale

    def _statistics(self, rows: Tensor, chunks: list[Places]) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) of all crops, which the running ones follow."""
        parts = [(len(chunk.boxes), *_forgetful(self._moments, rows, chunk)) for chunk in chunks]
        total = sum(count for count, _, _ in parts)
        mean = sum(own * (count / total) for count, _, own in parts)
        variance = sum((within + (own - mean) ** 2) * (count / total) for count, within, own in parts)
        self._follow(mean.detach(), variance.detach(), total * (self.cells * self.fineness) ** 2)
        return mean, variance

    def _moments(self, rows: Tensor, chunk: Places) -> tuple[Tensor, Tensor]:
        return torch.var_mean(self._cropped(rows, chunk), dim=(0, 1, 2), correction=0)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """As PyTorch's layer does, with the unbiased variance."""
        self.norm.num_batches_tracked.add_(1)
        self.norm.running_mean.lerp_(mean, self.norm.momentum)
        self.norm.running_var.lerp_(variance * (count / max(count - 1, 1)), self.norm.momentum)


def samples(low: Tensor, high: Tensor, size: Tensor, count: int, align: Align) -> Tensor:
    """Where `count` samples of each region lie along one axis (R, count), in pixels whose centres are whole numbers.

    low, high: the region's ends (R,), the first pixel reaching from 0 to 1; size: of the map (R,)
    """
    steps = torch.arange(count, dtype=low.dtype, device=low.device)
    if align == "cell":
        return low[:, None] + (high - low)[:, None] / count * (steps + 0.5) - 0.5
    shares = steps / (count - 1) if count > 1 else steps + 0.5
    first, last = ((one / size * (size - 1))[:, None] for one in (low, high))
    return first * (1 - shares) + last * shares


def _forgetful(function: Callable[..., Any], *inputs: Any) -> Any:
    """What `function` says, computed again in the backward pass."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def build(
    pyramid: Pyramid,
    output_size: int,
    *,
    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 4),
    channels: PositiveInt = 256,
    norm: Literal["batch", "group"] = "batch",
    kernel: Literal[1, 3] = 3,
    align: Align = "cell",
) -> Subnet:
    """Branches of `sizes` times the pool's side, `channels` each, and so many in all; `kernel` is the last one's."""
    return Subnet(pyramid, output_size, sizes=sizes, channels=channels, norm=norm, kernel=kernel, align=align)
