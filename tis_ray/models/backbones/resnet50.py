"""ResNet-50 (He et al. 2016), stride in the 3x3 convolution as torchvision has it."""

from functools import partial

from pydantic import NonNegativeFloat
from torch import nn
from torchvision.models import resnet50

from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._resnet import resnet_features
from tis_ray.models.backbones._stem import Stem
from tis_ray.models.backbones._weights import Weights


def build(
    *,
    norm: Norm = "batch",
    weights: Weights = None,
    stem: Stem = "7x7",
    eps: NonNegativeFloat = 1e-5,
    deformable: bool = False,
) -> Features:
    """Maps of stages 2 to 5; `weights`, file or name, are torchvision's ImageNet ones, of this stem or the 7x7 one.

    `eps` is batch normalisation's, frozen or not: torchvision's first COCO detectors, `fasterrcnn_resnet50_fpn` and
    `maskrcnn_resnet50_fpn`, were trained with 0.
    """
    network = resnet50(weights=None, norm_layer=partial(nn.BatchNorm2d, eps=eps))
    return resnet_features(network, "resnet50", norm=norm, weights=weights, stem=stem, deformable=deformable)
