"""ShuffleNet V2 x0.5 (Ma et al. 2018), the light backbone family of MegDetV2's segmenter."""

from torchvision.models import shufflenet_v2_x0_5

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._shufflenet import shufflenet_features
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None) -> Features:
    """Maps after the max-pool (stride 4) and stages 2 to 4; `weights` (file, name) are torchvision's ImageNet ones."""
    return shufflenet_features(shufflenet_v2_x0_5(weights=None), "shufflenet_v2_x0_5", norm=norm, weights=weights)
