"""Exact masks as crops of their own sizes, to and from runs: what training targets and pictures are made of."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.run_algebra import bounds
from tis_ray.ops.runs import Runs

Crop = NDArray[np.uint8]  # (h, w)


def of_crops(crops: Sequence[Crop], offsets: NDArray[np.int32], height: int, width: int) -> Runs:
    """The N masks of crops, non-zero where set, whose top-left pixels lie at `offsets` (N, 2) x, y.

    What lies outside the image is cut off.
    """
    found = [
        _of_crop(np.ascontiguousarray(crop), x, y, height, width)
        for crop, (x, y) in zip(crops, np.asarray(offsets, dtype=np.int64).tolist(), strict=True)
    ]
    ends = np.cumsum([0, *map(len, found)], dtype=np.int64)
    return Runs(height, width, np.concatenate([np.empty((0, 2), np.int64), *found]), ends)


def to_crops(runs: Runs) -> tuple[list[Crop], NDArray[np.int32]]:
    """For each mask the smallest crop of 0/1 that holds it, and their x, y (N, 2).

    A mask without pixels is a crop (0, 0) at 0, 0. The crops of a call share their memory.
    """
    boxes = bounds(runs)
    starts = np.concatenate([[0], np.cumsum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))])
    pixels = _fill(runs.spans, runs.offsets, runs.height, boxes, starts)
    crops = [
        pixels[start:stop].reshape(y2 - y1, x2 - x1)
        for start, stop, (x1, y1, x2, y2) in zip(starts[:-1], starts[1:], boxes.tolist(), strict=True)
    ]
    return crops, boxes[:, :2].astype(np.int32)


@njit(cache=True)
def _of_crop(crop, x0, y0, height, width):  # type: ignore[no-untyped-def]
    """Spans (R, 2) of a crop at x0, y0."""
    x_from, x_to = max(x0, 0), min(x0 + crop.shape[1], width)
    y_from, y_to = max(y0, 0), min(y0 + crop.shape[0], height)
    count = np.int64(0)
    for write in range(2):  # first to count them
        spans = np.empty((count if write else 0, 2), dtype=np.int64)
        count, stop = np.int64(0), np.int64(-1)
        for x in range(x_from, x_to):
            y = y_from
            while y < y_to:
                if not crop[y - y0, x - x0]:
                    y += 1
                    continue
                first = x * height + y
                while y < y_to and crop[y - y0, x - x0]:
                    y += 1
                if first != stop:  # else the last span goes on
                    count += 1
                    if write:
                        spans[count - 1, 0] = first
                stop = x * height + y
                if write:
                    spans[count - 1, 1] = stop
    return spans


@njit(cache=True)
def _fill(spans, offsets, height, boxes, starts):  # type: ignore[no-untyped-def]
    """The pixels of all crops, row by row, those of one after those of another."""
    pixels = np.zeros(starts[-1], dtype=np.uint8)
    for mask in range(len(boxes)):
        x1, y1, columns = boxes[mask, 0], boxes[mask, 1], boxes[mask, 2] - boxes[mask, 0]
        for i in range(offsets[mask], offsets[mask + 1]):
            position, stop = spans[i, 0], spans[i, 1]
            while position < stop:
                x, y = position // height, position % height
                bottom = min(y + stop - position, height)
                for row in range(y, bottom):
                    pixels[starts[mask] + (row - y1) * columns + x - x1] = 1
                position += bottom - y
    return pixels
