"""ShuffleNet V2 x0.5 (Ma et al. 2018), the light backbone family of MegDetV2's segmenter."""

from pathlib import Path

from torchvision.models import shufflenet_v2_x0_5

from tis_ray.models.backbones._features import Features, Norm, finished


def build(*, norm: Norm = "batch", weights: Path | None = None) -> Features:
    """Maps after the max-pool (stride 4) and stages 2 to 4; `weights` is torchvision's state dict in a local file."""
    network = finished(shufflenet_v2_x0_5(weights=None), norm=norm, weights=weights)
    return Features(network, ("maxpool", "stage2", "stage3", "stage4"), (24, 48, 96, 192))
