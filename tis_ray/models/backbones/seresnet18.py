"""ResNet-18 with squeeze and excitation (Hu et al. 2018), a small stand-in for the deep ones, from timm."""

from timm import create_model

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._resnet import resnet_features
from tis_ray.models.backbones._stem import Stem
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None, stem: Stem = "7x7", deformable: bool = False) -> Features:
    """Maps of stages 2 to 5; `weights`, file or name, are timm's ImageNet ones, of this stem or the 7x7 one."""
    return resnet_features(
        create_model("seresnet18"), "seresnet18", norm=norm, weights=weights, stem=stem, deformable=deformable
    )
