"""ShuffleNet V2 (Ma et al. 2018) of any depth and width, with the parts of its large variants.

MegDetV2's detector has one with FLOPs near those of SENet-154, which was not published. These are such settings:

    shufflenet_v2:
      stages_repeats: [10, 23, 10]
      stages_out_channels: [64, 1056, 2112, 4224, 2048]
      se: true
      residual: true

At 800 x 1333 that is 880 GFLOPs (two for each multiplication and addition) and 161 million parameters; SENet-154 has
885 and 113.
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
    stages_out_channels: channels of the first convolution, of stages 2 to 4 and of the classifier's convolution, which
                         is left out; by default those of x1.0
    se:                  squeeze-excitation of what each unit computes
    residual:            the identity is added to what each unit of stride 1 computes
    weights:             those of the same network; by default torchvision's `shufflenet_v2_x1_0.IMAGENET1K_V1` fit
    """
    unit = partial(Unit, se=se, residual=residual)
    network = ShuffleNetV2(list(stages_repeats), list(stages_out_channels), inverted_residual=unit)
    return shufflenet_features(network, "shufflenet_v2", norm=norm, weights=weights)
