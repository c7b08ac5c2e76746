"""ResNet-101 (He et al. 2016), stride in the 3x3 convolution as torchvision has it."""

from torchvision.models import resnet101

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._resnet import resnet_features
from tis_ray.models.backbones._stem import Stem
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None, stem: Stem = "7x7", deformable: bool = False) -> Features:
    """Maps of stages 2 to 5; `weights`, file or name, are torchvision's ImageNet ones, of this stem or the 7x7 one."""
    return resnet_features(
        resnet101(weights=None), "resnet101", norm=norm, weights=weights, stem=stem, deformable=deformable
    )
