"""Varying the colours of a picture: brightness, contrast, saturation and hue, as SSD does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

BAND_ROWS = 128


class Colours(NamedTuple):
    """Factors of brightness, contrast and saturation, which 1 leaves; and by what share of the circle hue turns."""

    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True, slots=True)
class Photometric:
    """Varies each by up to so much in either direction, with a `probability`."""

    probability: float = 0.5
    brightness: float = 0.125
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05

    def draw(self, chance: np.random.Generator) -> Colours | None:
        """What to do, or None. Five numbers are drawn from `chance`, whatever comes of them."""
        chosen = chance.random() < self.probability
        most = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        moves = chance.uniform(-1, 1, size=4) * most
        return Colours(*(moves + np.array([1, 1, 1, 0])).tolist()) if chosen else None


def recolour(image: Tensor, colours: Colours) -> Tensor:
    """The picture uint8 (3, H, W) with other colours, as torchvision has them: brightness first, hue last.

    What would change nothing is left out.
    """
    if colours.brightness != 1:
        image = _by_bands(image, lambda band: transforms.adjust_brightness(band, colours.brightness))
    if colours.contrast != 1:  # about the mean of all of the picture
        image = transforms.adjust_contrast(image, colours.contrast)
    if colours.saturation != 1:
        image = _by_bands(image, lambda band: transforms.adjust_saturation(band, colours.saturation))
    if colours.hue != 0:
        image = _by_bands(image, lambda band: transforms.adjust_hue(band, colours.hue))
    return image


def _by_bands(image: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Of rows, where each pixel is changed by itself: torchvision computes in several float copies."""
    return torch.cat([change(band) for band in image.split(BAND_ROWS, dim=1)], dim=1)
