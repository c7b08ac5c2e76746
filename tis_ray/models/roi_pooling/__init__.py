"""Menu of RoI pools. Each module exports `build(pyramid, output_size, *, ...) -> RoiPool`; its name is the option's.

A `RoiPool`, an `nn.Module`, is called with the levels, a dict of maps (B, C, H/s, W/s), the boxes of each image, float
(R_i, 4) xyxy in the network frame, and the images' sizes (height, width); it gives regions (R, `out_channels`,
`output_size`, `output_size`), image by image. `levels` int64 (R,) says which level each region is pooled from, in the
place of the pyramid's rule. No boxes give no regions, of the same other dimensions.
"""

from typing import Protocol

from torch import Tensor

from tis_ray.models.pyramid_align import Features, SizesHW
from tis_ray.models.roi_levels import LevelRule


class RoiPool(Protocol):
    """Regions of interest read from a pyramid."""

    output_size: int
    out_channels: int
    levels: LevelRule

    def __call__(
        self, features: Features, boxes: list[Tensor], sizes_hw: SizesHW, *, levels: Tensor | None = None
    ) -> Tensor: ...
