"""What happens to a training picture and its ground truth together: cropping, cutting, resizing and mirroring.

Images are uint8 tensors (3, H, W); annotations are moved by the factors of the actual, rounded sizes, so that
boxes, masks, stuff and pixels stay on top of each other.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.data.resize import resize_image
from tis_ray.data.visible import with_visible
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.ops import boxes as box_ops
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.nearest import nearest_sources
from tis_ray.views import SizeHW


class Labelled(NamedTuple):
    """A picture uint8 (3, H, W) and its ground truth in the same frame."""

    image: Tensor
    annotations: Annotations


def crop(image: Tensor, annotations: Annotations, box: tuple[int, int, int, int]) -> Labelled:
    """The part of the picture inside `box` (x1, y1, x2, y2), whole pixels of the picture.

    Boxes and masks are cut at its border; a crowd without a pixel in it is left out.
    """
    x1, y1, x2, y2 = box

    masks = annotations.masks.crop(box)
    kept = ~annotations.crowd | (masks.areas() > 0)
    moved = _moved(annotations, lambda boxes: _cut_boxes(boxes, box), masks, lambda stuff: stuff[y1:y2, x1:x2])
    return Labelled(image[:, y1:y2, x1:x2], moved[kept])


def cut(image: Tensor, annotations: Annotations, box: tuple[int, int, int, int], *, min_visible: float) -> Labelled:
    """As `crop`, for a box that cuts objects: those of which less than `min_visible` of the area is left are left out.

    The boxes of the others are those of their cut masks.
    """
    x1, y1, x2, y2 = box
    boxes = _cut_boxes(annotations.boxes, box)
    moved = with_visible(annotations, annotations.masks.crop(box), boxes, min_visible=min_visible)
    stuff, unlabelled = annotations.stuff, annotations.unlabelled
    moved = replace(
        moved,
        stuff=None if stuff is None else stuff[y1:y2, x1:x2],
        unlabelled=None if unlabelled is None else _cut_boxes(unlabelled, box),
    )
    return Labelled(image[:, y1:y2, x1:x2], moved)


def resize(image: Tensor, annotations: Annotations, size_hw: SizeHW) -> Labelled:
    """The picture at `size_hw` (height, width); masks take the nearest pixel, so a tiny one may lose them all."""
    height, width = int(image.shape[-2]), int(image.shape[-1])
    factors = np.array([size_hw[1] / width, size_hw[0] / height] * 2)
    masks = annotations.masks.resized((height, width), size_hw)
    moved = _moved(
        annotations, lambda boxes: (boxes * factors).astype(np.float32), masks, lambda stuff: _nearest(stuff, size_hw)
    )
    return Labelled(resize_image(image, size_hw), moved)


def hflip(image: Tensor, annotations: Annotations) -> Labelled:
    """The picture mirrored about its vertical axis."""
    width = int(image.shape[-1])
    masks = annotations.masks.hflip(width)
    moved = _moved(annotations, lambda boxes: box_ops.hflip(boxes, width), masks, lambda stuff: stuff[:, ::-1])
    return Labelled(image.flip(-1), moved)


def without_degenerate(annotations: Annotations) -> Annotations:
    """Only the objects whose box has a width and a height: the others have no regression target."""
    if annotations.unlabelled is not None:
        annotations = replace(annotations, unlabelled=annotations.unlabelled[_solid(annotations.unlabelled)])
    return annotations[_solid(annotations.boxes)]


def _solid(boxes: Boxes) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def _cut_boxes(boxes: Boxes, box: tuple[int, int, int, int]) -> Boxes:
    """Boxes within `box`, in the frame whose origin is its corner."""
    x1, y1, x2, y2 = box
    return box_ops.clip(boxes - np.array([x1, y1, x1, y1], np.float32), y2 - y1, x2 - x1)


def _moved(
    annotations: Annotations,
    move: Callable[[Boxes], Boxes],
    masks: CropMasks,
    move_stuff: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> Annotations:
    """The same ground truth in another frame: `masks` are there already, all boxes and the stuff go there now."""
    return replace(
        annotations,
        boxes=move(annotations.boxes),
        masks=masks,
        stuff=None if annotations.stuff is None else move_stuff(annotations.stuff),
        unlabelled=None if annotations.unlabelled is None else move(annotations.unlabelled),
    )


def _nearest(labels: NDArray[np.uint8], size_hw: SizeHW) -> NDArray[np.uint8]:
    """A label image (H, W) at another size, as masks are resized."""
    rows, columns = (nearest_sources(old, new) for old, new in zip(labels.shape, size_hw, strict=True))
    return labels.take(rows, axis=0).take(columns, axis=1)
