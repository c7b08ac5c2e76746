"""ResNet-152 with squeeze and excitation (Hu et al. 2018), the SENet-152 of the WAD 2018 winner, from timm."""

from timm import create_model

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._resnet import resnet_features
from tis_ray.models.backbones._stem import Stem
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None, stem: Stem = "7x7", deformable: bool = False) -> Features:
    """Maps of stages 2 to 5; `weights`, file or name, are timm's ImageNet ones, of this stem or the 7x7 one."""
    return resnet_features(
        create_model("seresnet152"), "seresnet152", norm=norm, weights=weights, stem=stem, deformable=deformable
    )
