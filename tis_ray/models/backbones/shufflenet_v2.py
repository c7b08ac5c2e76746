"""ShuffleNet V2 (Ma et al. 2018) of any depth and width, with the parts of its large variants.

MegDetV2's detector has one with FLOPs near those of SENet-154, which was not published. This comes near it:

    shufflenet_v2:
      stages_repeats: [10, 23, 10]
      stages_out_channels: [64, 1056, 2112, 4224, 2048]
      se: true
      residual: true
"""

from functools import partial
from typing import Annotated

from pydantic import Field, PositiveInt
from torchvision.models import ShuffleNetV2

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._shufflenet import Unit, shufflenet_features
from tis_ray.models.backbones._weights import Weights

Even = Annotated[int, Field(gt=0, multiple_of=2)]  # a unit computes with one half and keeps the other


def build(
    *,
    norm: Norm = "batch",
    weights: Weights = None,
    stages_repeats: tuple[PositiveInt, PositiveInt, PositiveInt] = (4, 8, 4),
    stages_out_channels: tuple[PositiveInt, Even, Even, Even, PositiveInt] = (24, 116, 232, 464, 1024),
    se: bool = False,
    residual: bool = False,
) -> Features:
    """Maps after the max-pool (stride 4) and stages 2 to 4.

    stages_repeats:      units of stages 2 to 4
    stages_out_channels: channels of the first convolution, of stages 2 to 4 and of the last convolution, which belongs
                         to the classifier; by default those of x1.0
    se, residual:        see `Unit`
    weights:             of the same network, for the default one torchvision's `shufflenet_v2_x1_0.IMAGENET1K_V1`
    """
    unit = partial(Unit, se=se, residual=residual)
    network = ShuffleNetV2(list(stages_repeats), list(stages_out_channels), inverted_residual=unit)
    return shufflenet_features(network, "shufflenet_v2", norm=norm, weights=weights)
