"""Label maps, images whose pixels are values of classes or instances: where each value lies, and connected parts.

One pass over the pixels each, however many values there are.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError

_BLOCK = 64


def extents(labels: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The values of a map (H, W), rising (K,), and the tight box of each in whole pixels, (K, 4) xyxy."""
    bounds = _extents(labels)
    values = np.flatnonzero(bounds[:, 2])
    return values, bounds[values]


def components(mask: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The connected parts of a mask (H, W), non-zero where set, numbered from 1; 0 where the mask is not set.

    Pixels that share a side or a corner belong to one part. Raises `InputError` beyond 65535 parts.
    """
    parts, count = _components(np.ascontiguousarray(mask))
    if count > np.iinfo(np.uint16).max:
        raise InputError(f"mask: expected at most 65535 connected parts; got {count}")
    return np.asarray(parts, dtype=np.uint16)


@njit(cache=True)
def _is_all(pixels, value):  # type: ignore[no-untyped-def]
    """Without a way out of the loop, so that many pixels are compared at a time."""
    differ = pixels[0] ^ value
    for i in range(_BLOCK):
        differ |= pixels[i] ^ value
    return differ == 0


@njit(cache=True)
def _extents(labels):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    bounds = np.zeros((65536, 4), dtype=np.int32)
    bounds[:, 0] = width
    for y in range(height):
        x = 0
        while x < width:
            value, first = labels[y, x], x
            while x + _BLOCK <= width and _is_all(labels[y, x : x + _BLOCK], value):
                x += _BLOCK
            while x < width and labels[y, x] == value:
                x += 1
            box = bounds[value]
            if box[2] == 0:
                box[1] = y
            box[0], box[2], box[3] = min(box[0], first), max(box[2], x), y + 1
    return bounds


@njit(cache=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True)
def _components(mask):  # type: ignore[no-untyped-def]
    height, width = mask.shape
    parts = np.zeros((height, width), dtype=np.int32)
    parent = [np.int32(0)]
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            mine = np.int32(0)
            for dy, dx in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):  # the neighbours seen before
                if y + dy < 0 or x + dx < 0 or x + dx >= width or not mask[y + dy, x + dx]:
                    continue
                other = _root(parent, parts[y + dy, x + dx])
                if mine == 0:
                    mine = other
                elif other != mine:
                    low = min(mine, other)
                    parent[max(mine, other)] = low
                    mine = low
            if mine == 0:
                mine = np.int32(len(parent))
                parent.append(mine)
            parts[y, x] = mine
    numbers = np.zeros(len(parent), dtype=np.int32)
    count = np.int32(0)
    for i in range(1, len(parent)):
        root = _root(parent, np.int32(i))
        if numbers[root] == 0:  # a root is the lowest of its part, met first
            count += 1
            numbers[root] = count
        numbers[i] = numbers[root]
    for y in range(height):
        for x in range(width):
            parts[y, x] = numbers[parts[y, x]]
    return parts, count
