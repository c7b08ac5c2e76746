"""Large-scale jitter (Ghiasi et al. 2021): a picture at a random factor of its size, cut to that size where larger."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from tis_ray.data import transforms
from tis_ray.data.transforms import Labelled
from tis_ray.data.visible import MIN_VISIBLE, without_tiny
from tis_ray.instances import Annotations
from tis_ray.views import SizeHW


class Zoom(NamedTuple):
    """A factor of the size, and the place of what is seen where that is a part: shares in 0..1 of the room, y and x."""

    factor: float
    place: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ScaleJitter:
    """Draws factors from `low` to `high`, each as likely."""

    low: float = 0.1
    high: float = 2.0

    def draw(self, chance: np.random.Generator) -> Zoom:
        """Three numbers are drawn from `chance`."""
        factor = chance.uniform(self.low, self.high)
        return Zoom(factor, (chance.random(), chance.random()))


def zoom(image: Tensor, annotations: Annotations, size_hw: SizeHW, zoomed: Zoom) -> Labelled:
    """The picture at `zoomed.factor` of `size_hw`, smaller than that or cut to it.

    It is cut first, to the whole pixels that will be seen, and only they are resized. Objects at the border are kept
    where a tenth of them is left, and where their boxes have 1 px or more; their boxes are those of their cut masks.
    """
    (y1, y2, height), (x1, x2, width) = (
        _seen(int(side), target, zoomed.factor, place)
        for side, target, place in zip(image.shape[-2:], size_hw, zoomed.place, strict=True)
    )
    part = transforms.cut(image, annotations, (x1, y1, x2, y2), min_visible=MIN_VISIBLE)
    image, annotations = transforms.resize(*part, (height, width))
    return Labelled(image, without_tiny(annotations))


def _seen(side: int, target: int, factor: float, place: float) -> tuple[int, int, int]:
    """Along an axis of `side` pixels: from which to which are seen, and the pixels that they become."""
    wanted = max(1, round(target * factor))
    if wanted <= target:
        return 0, side, wanted
    window = max(1, round(side * target / wanted))
    start = min(int(place * (side - window + 1)), side - window)
    return start, start + window, target
