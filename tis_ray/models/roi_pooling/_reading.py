"""Values of a pyramid between its pixels, at any points, for regions that lie on different levels.

The pixels of all levels are rows of one table, and what is read is a weighted sum of some of its rows, which one kernel
gathers and adds up. So neither does the device have to be waited for, to learn how many regions a level has, nor is
anything computed for regions on levels that are not theirs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tis_ray.models.pyramid_align import Features


class Places(NamedTuple):
    """Where R regions lie, each on one level.

    boxes:         float32 (R, 4) xyxy in that level's pixels, of which the first one reaches from 0 to 1
    first:         int64 (R,) the row of the first pixel of the region's image on that level
    height, width: int64 (R,) pixels of that level
    """

    boxes: Tensor
    first: Tensor
    height: Tensor
    width: Tensor

    def chunks(self, most: int) -> Iterator["Places"]:
        """The same regions, at most so many at a time; of no regions one chunk of none."""
        return (Places(*parts) for parts in zip(*(values.split(most) for values in self), strict=True))


def pixel_rows(features: Features, strides: Sequence[int]) -> Tensor:
    """The pixels (P, C) of all levels, level by level, image by image, row by row."""
    rows = [features[str(level)].permute(0, 2, 3, 1).flatten(0, 2) for level in range(len(strides))]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def places(features: Features, strides: Sequence[int], boxes: list[Tensor], levels: Tensor) -> Places:
    """Where `boxes`, those of each image xyxy in the network frame, lie on `levels` int64 (R,)."""
    shapes = [features[str(level)].shape for level in range(len(strides))]
    starts = [sum(count * height * width for count, _, height, width in shapes[:i]) for i in range(len(shapes))]
    levels = levels.clamp(0, len(shapes) - 1)  # a box of NaN has a level that there is not
    image = torch.cat([torch.full_like(one[:, 0], i, dtype=torch.int64) for i, one in enumerate(boxes)])
    height, width, start, stride = (
        sum((levels == level) * number for level, number in enumerate(numbers))
        for numbers in ([shape[2] for shape in shapes], [shape[3] for shape in shapes], starts, strides)
    )
    scaled = torch.cat(boxes).detach().float() / stride[:, None]
    return Places(scaled, start + image * height * width, height, width)


def read(
    rows: Tensor, found: Places, x: Tensor, y: Tensor, *, weights: Tensor | None = None, beyond: float = 1.0
) -> Tensor:
    """Sums over K points of what the pyramid holds there: (R, ..., K) to (R, ..., C), of the type of `rows`.

    x, y:    of each point in pixels of the region's level, whose centres are whole numbers; broadcast to each other
    weights: of each point, 1 by default
    beyond:  so many pixels around the outermost centres hold what these do, as RoIAlign has it with 1; all else is 0

    A point that is not a number makes its sum none. Gradients reach rows, points and weights.
    """
    columns, across = _neighbours(x, found.width, beyond)
    lines, down = _neighbours(y, found.height, beyond)
    first, width = (_beside(one, x)[..., None, None] for one in (found.first, found.width))
    index = (first + lines[..., :, None] * width + columns[..., None, :]).flatten(-3)  # (R, ..., 4 K)
    shares = down[..., :, None] * across[..., None, :]
    shares = shares if weights is None else shares * weights[..., None, None]
    sums = F.embedding_bag(
        index.flatten(0, -2), rows, per_sample_weights=shares.flatten(-3).flatten(0, -2).to(rows.dtype), mode="sum"
    )
    return sums.view(*index.shape[:-1], rows.shape[1])


def _neighbours(at: Tensor, size: Tensor, beyond: float) -> tuple[Tensor, Tensor]:
    """Along one axis the two pixels next to each point, int64 (..., 2), and their shares of its value (..., 2)."""
    last = _beside(size, at) - 1
    outside = (at < -beyond) | (at > last + beyond)
    at = torch.minimum(at.clamp(min=0), last.to(at.dtype))
    low = at.detach().nan_to_num().floor()  # memory outside of the table would be read where a point is NaN
    share = at - low
    low = low.long()
    pixels = torch.stack([low, torch.minimum(low + 1, last)], dim=-1)
    return pixels, torch.stack([1 - share, share], dim=-1).masked_fill(outside[..., None], 0)


def _beside(values: Tensor, points: Tensor) -> Tensor:
    """A number of each region (R,) beside its points (R, ...)."""
    return values.view(-1, *[1] * (points.dim() - 1))
