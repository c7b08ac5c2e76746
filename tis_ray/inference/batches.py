"""Which pieces of an image share a forward, and their pixels."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.data.resize import resize_image
from tis_ray.views import SizeHW, View


class Piece(NamedTuple):
    """One network input: of `view`, whose tile `number` it is, the view without a grid that owns its frame."""

    view: View
    number: int
    tile: View


Batch = tuple[Piece, ...]


def batches_of(views: Sequence[View], image_hw: SizeHW, *, batch_px: int) -> Iterator[Batch]:
    """The pieces of an image of this size that `views` look at, each once, as batches of one network size.

    Which these are does not depend on the order of `views`. Views that differ in their flip alone are in one batch, and
    tiles of a grid share one as long as it has no more than `batch_px` network pixels.
    """
    for _, group in groupby(sorted(set(views), key=_without_flip), key=_without_flip):
        twins = sorted(group)
        places = list(enumerate(zip(*(view.tiles(image_hw) for view in twins), strict=True)))
        if not places:  # their crop misses the image
            continue
        height, width = places[0][1][0].network_hw(image_hw)
        step = max(1, batch_px // (len(twins) * height * width))
        for i in range(0, len(places), step):
            yield tuple(
                Piece(view, number, tile)
                for number, tiles in places[i : i + step]
                for view, tile in zip(twins, tiles, strict=True)
            )


class Pixels:
    """The rectangle of an image around all that `views` look at, copied to the device once it is needed."""

    def __init__(self, image: NDArray[np.uint8], views: Sequence[View], device: torch.device) -> None:
        self._image = image
        self._device = device
        self.image_hw = (image.shape[0], image.shape[1])
        tiles = [tile for view in views for tile in view.tiles(self.image_hw)]
        regions = np.array([tile.region(self.image_hw) for tile in tiles], dtype=np.int64).reshape(-1, 4)
        self._x, self._y = regions[:, :2].min(axis=0, initial=max(self.image_hw)).tolist()
        self._right, self._bottom = regions[:, 2:].max(axis=0, initial=0).tolist()

    def inputs(self, batch: Batch) -> list[Tensor]:
        """uint8 (3, h, w) of each piece, resized and mirrored as its view wants it."""
        inputs: list[Tensor] = []
        resized = last = None
        for piece in batch:
            if resized is None or piece.number != last:
                resized = resize_image(self._of(piece.tile), piece.tile.network_hw(self.image_hw))
            inputs.append(resized.flip(-1) if piece.view.flip else resized)
            last = piece.number
        return inputs

    @cached_property
    def _pixels(self) -> Tensor:
        part = self._image[self._y : self._bottom, self._x : self._right]
        # A copy, since PyTorch takes neither read-only arrays nor negative strides.
        return torch.from_numpy(np.array(part, order="C")).to(self._device).permute(2, 0, 1)

    def _of(self, tile: View) -> Tensor:
        """uint8 (3, h, w): what one tile looks at, at the image's own size."""
        x1, y1, x2, y2 = tile.region(self.image_hw)
        return self._pixels[:, y1 - self._y : y2 - self._y, x1 - self._x : x2 - self._x]


def _without_flip(view: View) -> tuple[object, ...]:
    """What views of one batch share: the same pixels before mirroring."""
    return view.member, view.crop, view.tile, view.scale, view.max_long_edge or 0
