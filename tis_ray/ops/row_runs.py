"""Masks as runs of set pixels in row-major order, as the WAD 2018 submissions count them.

A run is a 0-based start, y * width + x in the whole image, and a length; runs that touch are one. The cost follows
the area of a mask's crop, not of its image.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError

Starts = NDArray[np.int64]  # (K,) rising
Lengths = NDArray[np.int64]  # (K,) at least 1


def of_crop(crop: NDArray[np.uint8], offset_xy: tuple[int, int], width: int) -> tuple[Starts, Lengths]:
    """The runs of a mask (h, w), non-zero where set, whose top-left pixel lies at `offset_xy` of an image `width` wide.

    The crop has to lie within the image's columns.
    """
    h, w = crop.shape
    bordered = np.zeros((h, w + 2), dtype=np.int8)
    bordered[:, 1:-1] = crop != 0
    change = np.diff(bordered, axis=1).ravel()  # w + 1 changes a row, each row closed in itself
    first, last = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    origin = offset_xy[1] * width + offset_xy[0]
    starts = origin + (first // (w + 1)) * width + first % (w + 1)
    stops = origin + (last // (w + 1)) * width + last % (w + 1)
    joined = np.flatnonzero(starts[1:] == stops[:-1])  # over the image's right border to the next row
    starts, stops = np.delete(starts, joined + 1), np.delete(stops, joined)
    return starts, stops - starts


def to_crop(starts: Starts, lengths: Lengths, height: int, width: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The smallest crop (h, w) of 0/1 that holds the runs, and its x, y; (0, 0) in size where there is none.

    Raises `InputError` where runs are empty, overlap, do not rise, or leave the image of `height` x `width`.
    """
    if len(starts) == 0:
        return np.zeros((0, 0), dtype=np.uint8), (0, 0)
    pixels = height * width
    if (lengths < 1).any() or (lengths > pixels).any():
        raise InputError(f"expected run lengths of 1 to {pixels}; got {lengths.min()} to {lengths.max()}")
    if starts[0] < 0 or starts.max() > pixels - lengths[np.argmax(starts)]:
        raise InputError(f"expected runs within the {pixels} pixels of {width}x{height}; got others")
    if (starts[1:] < starts[:-1] + lengths[:-1]).any():
        raise InputError("expected runs that rise and do not overlap; got others")
    x1, y1, x2, y2 = _bounds(starts, lengths, width)
    return _fill(starts, lengths, width, x1, y1, x2, y2), (int(x1), int(y1))


@njit(cache=True)
def _bounds(starts, lengths, width):  # type: ignore[no-untyped-def]
    x1, x2 = width, 0
    for i in range(len(starts)):
        first, final = starts[i], starts[i] + lengths[i] - 1
        if first // width == final // width:
            x1, x2 = min(x1, first % width), max(x2, final % width + 1)
        else:
            x1, x2 = 0, width
    return x1, starts[0] // width, x2, (starts[-1] + lengths[-1] - 1) // width + 1


@njit(cache=True)
def _fill(starts, lengths, width, x1, y1, x2, y2):  # type: ignore[no-untyped-def]
    crop = np.zeros((y2 - y1, x2 - x1), dtype=np.uint8)
    for i in range(len(starts)):
        for pixel in range(starts[i], starts[i] + lengths[i]):
            crop[pixel // width - y1, pixel % width - x1] = 1
    return crop
