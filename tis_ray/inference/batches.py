"""Which pieces of an image share a forward, and which images may join them."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from tis_ray.views import SizeHW, View


class Piece(NamedTuple):
    """One network input: of `view`, whose tile `number` it is, the view without a grid that owns its frame."""

    view: View
    number: int
    tile: View


Batch = tuple[Piece, ...]


def batches_of(views: Sequence[View], image_hw: SizeHW, *, batch_px: int) -> list[Batch]:
    """The pieces of an image of this size that `views` look at, each once, as batches of one network size.

    Which these are does not depend on the order of `views`. Views that differ in their flip alone are in one batch, and
    tiles of a grid share one as long as it has no more than `batch_px` network pixels. Those of the largest network
    inputs come first: what they leave to the device's allocator is room for all others.
    """
    batches: list[Batch] = []
    for _, group in groupby(sorted(set(views), key=_without_flip), key=_without_flip):
        twins = sorted(group)
        places = list(enumerate(zip(*(view.tiles(image_hw) for view in twins), strict=True)))
        if not places:  # their crop misses the image
            continue
        step = max(1, batch_px // (len(twins) * _network_px(places[0][1][0], image_hw)))
        batches += (
            tuple(
                Piece(view, number, tile)
                for number, tiles in places[i : i + step]
                for view, tile in zip(twins, tiles, strict=True)
            )
            for i in range(0, len(places), step)
        )
    return sorted(batches, key=lambda batch: -_network_px(batch[0].tile, image_hw))


def pictures_at_once(batches: Sequence[Batch], image_hw: SizeHW, *, batch_px: int) -> int:
    """How many images of this size may share the forwards of these batches: as many as the largest one allows.

    More would share the others alone, which are little of the work, and all of them would wait for each other.
    """
    largest = max((len(batch) * _network_px(batch[0].tile, image_hw) for batch in batches), default=batch_px)
    return max(1, batch_px // largest)


def _network_px(tile: View, image_hw: SizeHW) -> int:
    height, width = tile.network_hw(image_hw)
    return height * width


def _without_flip(view: View) -> tuple[object, ...]:
    """What views of one batch share: the same pixels before mirroring."""
    return view.member, view.crop, view.tile, view.scale, view.max_long_edge or 0
