"""Turning a picture and its ground truth by a small angle (LVIS 2020); the canvas keeps its size."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from tis_ray.data.transforms import Labelled
from tis_ray.data.visible import MIN_VISIBLE, with_visible
from tis_ray.formats.stuff_maps import UNLABELLED
from tis_ray.instances import Annotations
from tis_ray.ops.turn import turned_boxes, turned_labels

FILL = 114  # grey, in the place of what was never seen


@dataclass(frozen=True, slots=True)
class Rotation:
    """Turns by an angle of up to `degrees` in either direction, with a `probability`."""

    probability: float = 0.5
    degrees: float = 10.0

    def draw(self, chance: np.random.Generator) -> float | None:
        """Degrees counter-clockwise, or None. Two numbers are drawn from `chance`, whatever comes of them."""
        chosen = chance.random() < self.probability
        degrees = chance.uniform(-self.degrees, self.degrees)
        return degrees if chosen else None


def rotate(image: Tensor, annotations: Annotations, degrees: float) -> Labelled:
    """The picture uint8 (3, H, W) turned counter-clockwise about its middle, grey where it was not.

    Masks take the pixel that each one's centre came from, boxes become theirs. An object of which less than a tenth
    stays in the picture is left out, and so is a crowd of which nothing does.
    """
    size_hw = int(image.shape[-2]), int(image.shape[-1])
    masks = annotations.masks.rotated(degrees, size_hw)
    boxes = turned_boxes(annotations.boxes, degrees, size_hw)
    held = masks.areas() > 0
    boxes[held] = masks[held].tight().boxes()
    stuff, unlabelled = annotations.stuff, annotations.unlabelled
    moved = replace(
        with_visible(annotations, masks, boxes, min_visible=MIN_VISIBLE),
        stuff=None if stuff is None else turned_labels(stuff, degrees, fill=UNLABELLED),
        unlabelled=None if unlabelled is None else turned_boxes(unlabelled, degrees, size_hw),
    )
    return Labelled(_turned(image, degrees), moved)


def _turned(image: Tensor, degrees: float) -> Tensor:
    """By Pillow: of uint8 images several times faster than on tensors, and without their float copies."""
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    turned = transforms.rotate(picture, degrees, interpolation=InterpolationMode.BILINEAR, fill=[FILL] * 3)
    return torch.from_numpy(np.array(turned)).permute(2, 0, 1)
