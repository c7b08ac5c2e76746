"""ResNet-50 (He et al. 2016), stride in the 3x3 convolution as torchvision has it."""

from pathlib import Path

from torchvision.models import resnet50

from tis_ray.models.backbones._features import Features, Norm, finished


def build(*, norm: Norm = "batch", weights: Path | None = None) -> Features:
    """Maps of stages 2 to 5; `weights` is torchvision's ImageNet state dict in a local file."""
    network = finished(resnet50(weights=None), norm=norm, weights=weights)
    return Features(network, ("layer1", "layer2", "layer3", "layer4"), (256, 512, 1024, 2048))
