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
    extra_areas: (N,) number of pixels in these
    """

    frames: NDArray[np.int64]
    areas: NDArray[np.int64]
    bases: NDArray[np.int64]
    tops: NDArray[np.int32]
    bottoms: NDArray[np.int32]
    extras: NDArray[np.int64]
    extra_offsets: NDArray[np.int64]
    extra_areas: NDArray[np.int64]
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
    extra_areas = np.zeros(count, np.int64)
    for i in range(count):
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])  # unsigned: nothing is counted from the end
        begin = (frames[i, 0] - 1) * height  # the first pixel of the column that was filled last, none yet
        at = bases[i] + frames[i, 0] - 1  # and that column's position
        top, bottom, area = np.int64(height), np.int64(0), np.int64(0)
        for k in range(first, last):
            start, stop = spans[k, 0] - begin - height, spans[k, 1] - begin - height
            area += stop - start
            if start >= 0 and stop <= height:  # all of it in the next column, as most are
                at, begin = at + 1, begin + height
                tops[np.uint64(at)], bottoms[np.uint64(at)] = start, stop
                top, bottom = min(top, start), max(bottom, stop)
                continue
            start, stop = spans[k, 0], spans[k, 1]
            while start < stop:
                filled = start < begin + height
                if not filled:
                    column = start // height
                    at, begin = bases[i] + column, column * height
                end = min(stop, begin + height)
                top, bottom = min(top, start - begin), max(bottom, end - begin)
                if filled:
                    extras[num_extras, 0], extras[num_extras, 1] = start, end
                    num_extras += 1
                    extra_areas[i] += end - start
                else:
                    tops[np.uint64(at)], bottoms[np.uint64(at)] = start - begin, end - begin
                start = end
        extra_offsets[i + 1] = num_extras
        areas[i] = area
        if area > 0:
            frames[i, 1], frames[i, 3] = top, bottom
    return Columns(frames, areas, bases, tops, bottoms, extras[:num_extras].copy(), extra_offsets, extra_areas, height)


@njit(cache=True)
def shared_of_firsts(tops, bottoms, at, other, width):  # type: ignore[no-untyped-def]
    """Number of pixels that the first spans of `width` columns share, from positions `at` and `other` on."""
    at, other = np.uint64(at), np.uint64(other)  # unsigned: nothing is counted from the end, so eight go at a time
    total = np.int64(0)
    for x in range(np.uint64(width)):
        rows = min(bottoms[at + x], bottoms[other + x]) - max(tops[at + x], tops[other + x])
        total += max(rows, 0)
    return total


@njit(cache=True)
def shared_of_extras(bases, tops, bottoms, extras, extra_offsets, height, i, j, low, high):  # type: ignore[no-untyped-def]
    """Number of pixels that masks i and j share beside those of first spans; their common columns are low..high.

    The arrays are those of `Columns`, which callers read from it ahead of their loops: each read counts references,
    and takes as long as comparing two small masks does.
    """
    first, last = extra_offsets[i], extra_offsets[i + 1]
    other_first, other_last = extra_offsets[j], extra_offsets[j + 1]
    total = np.int64(0)
    if first < last:
        total += _with_columns(extras, first, last, bases[j], tops, bottoms, low, high, height)
    if other_first < other_last:
        total += _with_columns(extras, other_first, other_last, bases[i], tops, bottoms, low, high, height)
        total += _of_extras(extras, first, last, other_first, other_last)
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
def _of_extras(extras, i, last, j, other_last):  # type: ignore[no-untyped-def]
    """Pixels in both of two lists of rising spans, i..last and j..other_last, read once side by side."""
    total = np.int64(0)
    while i < last and j < other_last:
        stop, other_stop = extras[i, 1], extras[j, 1]
        total += max(min(stop, other_stop) - max(extras[i, 0], extras[j, 0]), 0)
        i += stop <= other_stop
        j += other_stop <= stop
    return total
