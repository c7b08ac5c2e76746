"""Mosaic (YOLOv4; LVIS 2020): four pictures in one, each with a corner on a point about its middle.

Each picture is cut to what will be seen of it, resized once and pasted; no two are there at their own size together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.data import transforms
from tis_ray.data.rotation import FILL
from tis_ray.data.transforms import Labelled
from tis_ray.data.visible import without_tiny
from tis_ray.formats.stuff_maps import UNLABELLED
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.views import SizeHW


class Layout(NamedTuple):
    """Which images join the first, in the order of reading, and the point: shares of the height and the width."""

    others: tuple[int, int, int]
    point: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Joins four images with a `probability`; objects of which less than `min_visible` is left are left out."""

    probability: float = 0.5
    min_visible: float = 0.1

    def draw(self, chance: np.random.Generator, num_images: int) -> Layout | None:
        """Six numbers are drawn from `chance`, whatever comes of them; images may come twice."""
        chosen = chance.random() < self.probability
        y, x = chance.uniform(0.25, 0.75, size=2).tolist()
        first, second, third = chance.integers(num_images, size=3).tolist()
        return Layout((first, second, third), (y, x)) if chosen else None


class Span(NamedTuple):
    """One axis of a part: what is seen of the picture, in its pixels, and where on the canvas."""

    source: tuple[int, int]
    target: tuple[int, int]


def join(
    samples: Iterable[Labelled], canvas_hw: SizeHW, point: tuple[float, float], *, factor: float = 1, min_visible: float
) -> Labelled:
    """Four samples as one: top left, top right, bottom left and bottom right of the point.

    The canvas is `canvas_hw`, times `factor` where that is below 1. A picture is resized to fit half of `canvas_hw`,
    times `factor`; where it exceeds its part it is cut, where it is smaller the canvas stays grey and its stuff
    unknown. A class is unverified where it is so in any of the pictures. Samples are taken one after the other.
    """
    half_hw = canvas_hw[0] * factor / 2, canvas_hw[1] * factor / 2
    canvas_hw = _scaled(canvas_hw, min(factor, 1))
    image = torch.full((*canvas_hw, 3), FILL, dtype=torch.uint8).permute(2, 0, 1)
    centre = [min(max(round(side * share), 1), side - 1) for side, share in zip(canvas_hw, point, strict=True)]
    remaining = iter(samples)  # nothing here holds a picture while the next one is read
    parts = [
        _paste(image, next(remaining), half_hw, centre, before=before, min_visible=min_visible)
        for before in ((True, True), (True, False), (False, True), (False, False))
    ]
    return Labelled(image, _merged([part for part in parts if part is not None]))


def _paste(
    image: Tensor,
    sample: Labelled,
    half_hw: tuple[float, float],
    centre: Sequence[int],
    *,
    before: tuple[bool, bool],
    min_visible: float,
) -> Annotations | None:
    """Put a picture in its place above or below, left or right of the centre; its ground truth, None without room."""
    canvas_hw, shape = (_size(one) for one in (image, sample.image))
    fit = min(half_hw[0] / shape[0], half_hw[1] / shape[1])
    rows, columns = (
        span(shape[axis], max(1, round(shape[axis] * fit)), centre[axis], canvas_hw[axis], before=before[axis])
        for axis in (0, 1)
    )
    if rows.target[0] == rows.target[1] or columns.target[0] == columns.target[1]:
        return None
    part, annotations = _part(*sample, rows, columns, min_visible=min_visible)
    image[:, slice(*rows.target), slice(*columns.target)] = part
    return _moved(annotations, columns.target[0], rows.target[0], canvas_hw)


def _size(image: Tensor) -> SizeHW:
    return int(image.shape[-2]), int(image.shape[-1])


def _scaled(size_hw: SizeHW, factor: float) -> SizeHW:
    return max(1, round(size_hw[0] * factor)), max(1, round(size_hw[1] * factor))


def span(side: int, resized: int, centre: int, canvas: int, *, before: bool) -> Span:
    """Along an axis a picture of `side` pixels that becomes `resized` ones and ends at `centre`, or begins there."""
    seen = min(resized, centre if before else canvas - centre)
    kept = min(max(round(side * seen / resized), 1), side)
    if before:
        return Span((side - kept, side), (centre - seen, centre))
    return Span((0, kept), (centre, centre + seen))


def _part(image: Tensor, annotations: Annotations, rows: Span, columns: Span, *, min_visible: float) -> Labelled:
    """What is seen of one picture, at its size on the canvas."""
    box = columns.source[0], rows.source[0], columns.source[1], rows.source[1]
    cut = transforms.cut(image, annotations, box, min_visible=min_visible)
    image, annotations = transforms.resize(
        *cut, (rows.target[1] - rows.target[0], columns.target[1] - columns.target[0])
    )
    return Labelled(image, without_tiny(annotations))


def _moved(annotations: Annotations, x: int, y: int, canvas_hw: SizeHW) -> Annotations:
    """The ground truth of a part whose corner lies at x, y of the canvas."""
    offset = np.array([x, y, x, y], np.float32)
    stuff, unlabelled = annotations.stuff, annotations.unlabelled
    return replace(
        annotations,
        boxes=annotations.boxes + offset,
        masks=annotations.masks.shifted(x, y),
        stuff=None if stuff is None else _pasted(stuff, x, y, canvas_hw),
        unlabelled=None if unlabelled is None else unlabelled + offset,
    )


def _pasted(stuff: NDArray[np.uint8], x: int, y: int, canvas_hw: SizeHW) -> NDArray[np.uint8]:
    canvas = np.full(canvas_hw, UNLABELLED, dtype=np.uint8)
    canvas[y : y + stuff.shape[0], x : x + stuff.shape[1]] = stuff
    return canvas


def _merged(parts: list[Annotations]) -> Annotations:
    """All of the objects, on the canvas; of stuff what any part knows, which has no pixel with another."""
    stuff = [part.stuff for part in parts if part.stuff is not None]
    unlabelled = [part.unlabelled for part in parts if part.unlabelled is not None]
    unverified = [part.unverified for part in parts if part.unverified is not None]
    return Annotations(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        CropMasks.concatenate([part.masks for part in parts]),
        np.concatenate([part.crowd for part in parts]),
        stuff=np.minimum.reduce(stuff) if stuff else None,
        unlabelled=np.concatenate(unlabelled) if unlabelled else None,
        unverified=np.logical_or.reduce(unverified) if unverified else None,
    )
