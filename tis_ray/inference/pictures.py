"""Images that are looked at together: their pixels on the device, and whose turn it is."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tis_ray.data.resize import resize_image
from tis_ray.inference.asked import Asked
from tis_ray.inference.batches import Batch
from tis_ray.inference.staging import to_device
from tis_ray.instances import Instances
from tis_ray.views import View


class Picture:
    """One image that was asked about, and what its views have found so far.

    The rectangle around all that `views` look at is copied to the device once it is needed.
    """

    def __init__(self, asked: Asked, views: Sequence[View], device: torch.device) -> None:
        self.remember = asked.remember
        self.wanted = True
        self.found: dict[View, list[Instances]] = {view: [] for view in views}
        self.image_hw = (asked.image.shape[0], asked.image.shape[1])
        self._image = asked.image
        self._is_wanted = asked.wanted
        self._device = device
        tiles = [tile for view in views for tile in view.tiles(self.image_hw)]
        regions = np.array([tile.region(self.image_hw) for tile in tiles], dtype=np.int64).reshape(-1, 4)
        self._x, self._y = regions[:, :2].min(axis=0, initial=max(self.image_hw)).tolist()
        self._right, self._bottom = regions[:, 2:].max(axis=0, initial=0).tolist()

    def still_wanted(self) -> bool:
        """Whether somebody waits for it; once nobody does, that is for good."""
        self.wanted = self.wanted and self._is_wanted()
        return self.wanted

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
        return to_device(part, self._device).permute(2, 0, 1)

    def _of(self, tile: View) -> Tensor:
        """uint8 (3, h, w): what one tile looks at, at the image's own size."""
        x1, y1, x2, y2 = tile.region(self.image_hw)
        return self._pixels[:, y1 - self._y : y2 - self._y, x1 - self._x : x2 - self._x]


def turns(
    pictures: Sequence[Picture], batches: Sequence[Batch], *, most: int, all_or_one: bool
) -> Iterator[tuple[Batch, list[Picture]]]:
    """The forwards that answer for all `pictures`, which are of one size: a batch and whose pieces of it share one.

    Before each forward every picture that still needs it is asked whether it is wanted, and left out for good where
    it is not. At most `most` share a forward; with `all_or_one` so many or one: for compiled graphs, of
    which each number of pictures would need another.
    """
    for batch in batches:
        waiting: Sequence[Picture] = pictures
        while waiting := [picture for picture in waiting if picture.still_wanted()]:
            count = 1 if all_or_one and len(waiting) < most else most
            yield batch, waiting[:count]
            waiting = waiting[count:]
