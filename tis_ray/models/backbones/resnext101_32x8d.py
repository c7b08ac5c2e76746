"""ResNeXt-101 32x8d (Xie et al. 2017)."""

from torchvision.models import resnext101_32x8d

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._resnet import resnet_features
from tis_ray.models.backbones._stem import Stem
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None, stem: Stem = "7x7", deformable: bool = False) -> Features:
    """Maps of stages 2 to 5; `weights`, file or name, are torchvision's ImageNet ones, of this stem or the 7x7 one."""
    return resnet_features(
        resnext101_32x8d(weights=None), "resnext101_32x8d", norm=norm, weights=weights, stem=stem, deformable=deformable
    )
