"""ResNet-18 (He et al. 2016)."""

from pathlib import Path

from torchvision.models import resnet18

from tis_ray.models.backbones._features import Features, Norm, finished


def build(*, norm: Norm = "batch", weights: Path | None = None) -> Features:
    """Maps of stages 2 to 5; `weights` is torchvision's ImageNet state dict in a local file."""
    network = finished(resnet18(weights=None), norm=norm, weights=weights)
    return Features(network, ("layer1", "layer2", "layer3", "layer4"), (64, 128, 256, 512))
