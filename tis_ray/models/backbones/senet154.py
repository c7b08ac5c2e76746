"""SENet-154 (Hu et al. 2018), to whose FLOPs MegDetV2 compares its backbone, from timm; it has a deep stem."""

from timm import create_model

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._resnet import resnet_features
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None, deformable: bool = False) -> Features:
    """Maps of stages 2 to 5; `weights`, file or name, are timm's ImageNet ones."""
    return resnet_features(create_model("senet154"), "senet154", norm=norm, weights=weights, deformable=deformable)
