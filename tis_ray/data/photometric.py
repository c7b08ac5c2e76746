"""Varying the colours of a picture: brightness, contrast, saturation and hue, as SSD does it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms


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
        image = transforms.adjust_brightness(image, colours.brightness)
    if colours.contrast != 1:
        image = transforms.adjust_contrast(image, colours.contrast)
    if colours.saturation != 1:
        image = transforms.adjust_saturation(image, colours.saturation)
    if colours.hue != 0:
        image = transforms.adjust_hue(image, colours.hue)
    return image
