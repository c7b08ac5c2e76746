"""Masks as runs, laid out column by column: the form in which what two masks share is found fastest.

Most columns of most masks hold one span. The first span of every column is stored as its top and bottom row, dense over
the mask's columns, so that two masks are compared column against column without a branch; the few spans that
follow in the same column are kept beside them as runs.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.runs import Runs


class Columns(NamedTuple):
    """N masks. All positions are pixels; those that are not noted otherwise are int64.

    frames: (N, 4) x1, y1, x2, y2 of the smallest box that holds the mask; zeros where it is empty
    areas:  (N,) number of set pixels
    bases:  (N,) column x of mask i is at `bases[i] + x` of `tops` and `bottoms`
    tops, bottoms: int32 (C,) rows [top, bottom) of each column's first span; 0, 0 where the column is empty
    extras: (E, 2) the other spans, numbered as in `Runs`; those of mask i are `extras[extra_offsets[i]:...[i + 1]]`
    """

    frames: NDArray[np.int64]
    areas: NDArray[np.int64]
    bases: NDArray[np.int64]
    tops: NDArray[np.int32]
    bottoms: NDArray[np.int32]
    extras: NDArray[np.int64]
    extra_offsets: NDArray[np.int64]
    height: int


def columns_of(runs: Runs) -> Columns:
    """The masks laid out column by column."""
    laid: Columns = lay_out(np.ascontiguousarray(runs.spans), runs.offsets, runs.height)
    return laid


@njit(cache=True)
def lay_out(spans, offsets, height):  # type: ignore[no-untyped-def]
    """The `Columns` of masks. A span that goes over the end of its column is a span of each column it is in."""
    count = len(offsets) - 1
    frames, areas, bases = np.zeros((count, 4), np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    num_columns = np.int64(0)
    for i in range(count):
        if offsets[i] < offsets[i + 1]:
            frames[i, 0] = spans[offsets[i], 0] // height
            frames[i, 2] = (spans[offsets[i + 1] - 1, 1] - 1) // height + 1
            bases[i] = num_columns - frames[i, 0]
            num_columns += frames[i, 2] - frames[i, 0]
    tops, bottoms = np.zeros(num_columns, dtype=np.int32), np.zeros(num_columns, dtype=np.int32)
    extras, extra_offsets, num_extras = np.empty((len(spans), 2), np.int64), np.zeros(count + 1, np.int64), 0
    for i in range(count):
        base, column = bases[i], np.int64(-1)
        begin, filled = np.int64(-height), False  # begin: the first pixel of the column
        top, bottom, area = np.int64(height), np.int64(0), np.int64(0)
        for k in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):  # unsigned: nothing is counted from the end
            start, stop = spans[k, 0], spans[k, 1]
            area += stop - start
            while start < stop:
                if start >= begin + height:
                    column, begin, filled = column + 1, begin + height, False
                    if start >= begin + height:
                        column = start // height
                        begin = column * height
                end = min(stop, begin + height)
                top, bottom = min(top, start - begin), max(bottom, end - begin)
                if filled:
                    extras[num_extras, 0], extras[num_extras, 1] = start, end
                    num_extras += 1
                else:
                    at = np.uint64(base + column)
                    tops[at], bottoms[at] = start - begin, end - begin
                    filled = True
                start = end
        extra_offsets[i + 1] = num_extras
        areas[i] = area
        if area > 0:
            frames[i, 1], frames[i, 3] = top, bottom
    return Columns(frames, areas, bases, tops, bottoms, extras[:num_extras].copy(), extra_offsets, height)


@njit(cache=True)
def shared_pixels(a, i, b, j):  # type: ignore[no-untyped-def]
    """Number of pixels that mask i of `a` and mask j of `b` share; both are `Columns` of one image."""
    low, high = max(a.frames[i, 0], b.frames[j, 0]), min(a.frames[i, 2], b.frames[j, 2])
    if low >= high:
        return np.int64(0)
    total = shared_of_firsts(a.tops, a.bottoms, a.bases[i] + low, b.tops, b.bottoms, b.bases[j] + low, high - low)
    return total + shared_of_extras(a, i, b, j, low, high)


@njit(cache=True)
def shared_of_firsts(tops, bottoms, at, other_tops, other_bottoms, other, width):  # type: ignore[no-untyped-def]
    """Number of pixels that the first spans of `width` columns share, from positions `at` and `other` on."""
    at, other = np.uint64(at), np.uint64(other)  # unsigned: nothing is counted from the end, so eight go at a time
    total = np.int64(0)
    for x in range(np.uint64(width)):
        rows = min(bottoms[at + x], other_bottoms[other + x]) - max(tops[at + x], other_tops[other + x])
        total += max(rows, 0)
    return total


@njit(cache=True)
def shared_of_extras(a, i, b, j, low, high):  # type: ignore[no-untyped-def]
    """Number of pixels that two masks share beside those of first spans; their common columns are low..high."""
    first, last = a.extra_offsets[i], a.extra_offsets[i + 1]
    other_first, other_last = b.extra_offsets[j], b.extra_offsets[j + 1]
    total = np.int64(0)
    if first < last:
        total += _with_columns(a.extras, first, last, b.bases[j], b.tops, b.bottoms, low, high, a.height)
    if other_first < other_last:
        total += _with_columns(b.extras, other_first, other_last, a.bases[i], a.tops, a.bottoms, low, high, a.height)
        total += _with_runs(a.extras, first, last, b.extras, other_first, other_last)
    return total


@njit(cache=True)
def _with_columns(extras, first, last, base, tops, bottoms, low, high, height):  # type: ignore[no-untyped-def]
    """Pixels that `extras[first:last]` share with the first spans of the columns low..high of another mask."""
    total = np.int64(0)
    for k in range(first, last):
        column = extras[k, 0] // height
        if low <= column < high:
            top, bottom = extras[k, 0] - column * height, extras[k, 1] - column * height
            total += max(min(bottom, bottoms[base + column]) - max(top, tops[base + column]), 0)
    return total


@njit(cache=True)
def _with_runs(spans, i, last, others, j, other_last):  # type: ignore[no-untyped-def]
    """Pixels in both of two lists of rising spans, read once side by side."""
    total = np.int64(0)
    while i < last and j < other_last:
        stop, other_stop = spans[i, 1], others[j, 1]
        total += max(min(stop, other_stop) - max(spans[i, 0], others[j, 0]), 0)
        i += stop <= other_stop
        j += other_stop <= stop
    return total
