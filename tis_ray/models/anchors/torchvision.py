"""torchvision's own anchors, corners rounded to whole pixels: for weights that were trained with them.

Level strides are guessed as the padded image's side divided by the map's, which can be off on the coarsest level.
"""

from collections.abc import Sequence

from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from tis_ray.models.anchors import Ratios, Sizes, check_levels
from tis_ray.models.anchors._defaults import default_sizes


class Float32Anchors(AnchorGenerator):
    """torchvision's generator placing anchors in float32: under autocast bfloat16 would move them by up to 16 px."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """All anchors float32 (A, 4) xyxy in the network frame, level by level, the same for each image."""
        one = ImageList(image_list.tensors, image_list.image_sizes[:1])
        return super().forward(one, [level[:1, :1].float() for level in feature_maps]) * len(image_list.image_sizes)


def build(
    strides: Sequence[int], *, sizes: Sizes | None = None, aspect_ratios: Ratios = (0.5, 1.0, 2.0)
) -> Float32Anchors:
    """Every side of `sizes`, one tuple per level from fine to coarse, at every height/width ratio.

    By default one side of 8 strides on each level, 32 to 512 px on five; all five of them where there is one level.
    """
    sizes = default_sizes(strides) if sizes is None else sizes
    check_levels(sizes, strides)
    return Float32Anchors(sizes, (aspect_ratios,) * len(sizes))
