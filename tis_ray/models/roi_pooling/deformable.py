"""Deformable RoI pooling (Dai et al. 2017; Zhu et al. 2019): each cell looks where the region says it should.

The region is pooled as by RoIAlign first. From that two fully connected layers predict for each cell an offset, and
with `modulated`, as in the second version, how much it counts; then it is pooled with its cells moved:

    cell (i, j) reads S x S points about  x1 + (j + 1/2) w / n + gamma w dx_ij,  likewise along y

with w the region's width in pixels of its level. The last layer begins at zero: no offsets, and a modulation, twice a
sigmoid, of 1, so that new weights pool as RoIAlign (`aligned`) does. MegDetV2 (COCO 2019) pools boxes with it.
"""

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from tis_ray.models.pyramid_align import Features, Pyramid, SizesHW
from tis_ray.models.roi_pooling._reading import Places, pixel_rows, places, read

SAMPLES = 2  # along each side of a cell


class DeformableRoIPool(nn.Module):
    """The pool over the levels of a pyramid; each region is read from the level that the rule picks.

    All of it is float32 under autocast too, as RoIAlign is; the answer has the type of the maps.
    """

    def __init__(self, pyramid: Pyramid, output_size: int, *, modulated: bool, gamma: float, hidden: int) -> None:
        super().__init__()
        self.output_size = output_size
        self.out_channels = pyramid.channels
        self.levels = pyramid.levels
        self.strides = pyramid.strides
        self.gamma = gamma
        cells = output_size**2
        self.planes = 3 if modulated else 2  # x, y and modulation of each cell
        last = nn.Linear(hidden, self.planes * cells)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.predictor = nn.Sequential(
            nn.Linear(pyramid.channels * cells, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last
        )

    def forward(
        self, features: Features, boxes: list[Tensor], _sizes_hw: SizesHW, *, levels: Tensor | None = None
    ) -> Tensor:
        """Regions (R, C, S, S); `levels` int64 (R,) says where each is read, in the place of the rule."""
        found = places(features, self.strides, boxes, self.levels(boxes) if levels is None else levels)
        pixels = pixel_rows(features, self.strides)
        with torch.autocast(pixels.device.type, enabled=False):
            regions = self._pooled(pixels.to(torch.promote_types(pixels.dtype, torch.float32)), found)
        return regions.to(pixels.dtype).transpose(1, 2).unflatten(2, (self.output_size, self.output_size))

    def _pooled(self, rows: Tensor, found: Places) -> Tensor:
        """Cells (R, S * S, C), row by row."""
        x, y = (axis.to(rows.dtype) for axis in self._points(found.boxes))
        share = 1 / SAMPLES**2
        plain = read(rows, found, x, y, weights=torch.full_like(x, share))
        said = self.predictor(plain.flatten(1)).unflatten(1, (self.planes, -1, 1))  # (R, planes, cells, 1)
        sides = (found.boxes[:, 2:] - found.boxes[:, :2]).to(rows.dtype)[:, :, None, None] * self.gamma
        modulation = 2 * said[:, 2].sigmoid() if self.planes == 3 else torch.ones_like(said[:, 0])
        x, y = x + sides[:, 0] * said[:, 0], y + sides[:, 1] * said[:, 1]
        return read(rows, found, x, y, weights=(modulation * share).expand_as(x))

    def _points(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of the points of all cells, (R, S * S, 4) each, in pixels whose centres are whole numbers."""
        count = self.output_size * SAMPLES
        steps = (torch.arange(count, dtype=boxes.dtype, device=boxes.device) + 0.5) / count
        along = boxes[:, :2, None] + (boxes[:, 2:] - boxes[:, :2])[:, :, None] * steps - 0.5  # (R, 2, count)
        cells = along.unflatten(2, (self.output_size, SAMPLES))
        shape = (len(boxes), self.output_size, self.output_size, SAMPLES, SAMPLES)
        x = cells[:, 0, None, :, None, :].expand(shape)
        y = cells[:, 1, :, None, :, None].expand(shape)
        return x.flatten(3).flatten(1, 2), y.flatten(3).flatten(1, 2)


def build(
    pyramid: Pyramid,
    output_size: int,
    *,
    modulated: bool = True,
    gamma: PositiveFloat = 0.1,
    hidden: PositiveInt = 1024,
) -> DeformableRoIPool:
    """Offsets in `gamma` times the region's sides; `hidden` is the width of both layers before them."""
    return DeformableRoIPool(pyramid, output_size, modulated=modulated, gamma=gamma, hidden=hidden)
