"""Masks as runs of set pixels in row-major order, as the WAD 2018 submissions count them.

A run is a 0-based start, y * width + x in the whole image, and a length; runs that touch are one. Both ways the cost
follows the outlines of the masks, neither their area nor the image's.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.runs import Runs
from tis_ray.ops.span_buffer import longer

Starts = NDArray[np.int64]  # (K,) rising
Lengths = NDArray[np.int64]  # (K,) at least 1


def to_texts(runs: Runs) -> tuple[list[str], NDArray[np.int64]]:
    """Each of the N masks as `start length|start length|`, empty where it is, and its number of pixels (N,)."""
    spans, offsets = _turned(np.ascontiguousarray(runs.spans), runs.offsets, runs.height, runs.width)
    text, ends, areas = _written(spans, offsets, runs.height * runs.width)
    written, stops = text.tobytes().decode("ascii"), ends.tolist()
    return [written[start:stop] for start, stop in pairwise([0, *stops])], areas


def to_runs(rows: Sequence[tuple[Starts, Lengths]], height: int, width: int) -> Runs:
    """The N masks whose starts and lengths these are, in an image of this size.

    Raises `InputError` where runs are empty, overlap, do not rise, or leave the image.
    """
    for starts, lengths in rows:
        _check(starts, lengths, height, width)
    parts = [np.stack([starts, starts + lengths], axis=1) for starts, lengths in rows]
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    spans = np.concatenate([np.empty((0, 2), np.int64), *parts])
    return Runs(height, width, *_turned(spans, ends, width, height))


def _check(starts: Starts, lengths: Lengths, height: int, width: int) -> None:
    if len(starts) == 0:
        return
    pixels = height * width
    if (lengths < 1).any() or (lengths > pixels).any():
        raise InputError(f"expected run lengths of 1 to {pixels}; got {lengths.min()} to {lengths.max()}")
    if starts[0] < 0 or starts.max() > pixels - lengths[np.argmax(starts)]:
        raise InputError(f"expected runs within the {pixels} pixels of {width}x{height}; got others")
    if (starts[1:] < starts[:-1] + lengths[:-1]).any():
        raise InputError("expected runs that rise and do not overlap; got others")


@njit(cache=True)
def _turned(spans, offsets, height, width):  # type: ignore[no-untyped-def]
    """Spans and offsets in the other order: from x * height + y to y * width + x, or back with the sides exchanged.

    A row's runs begin where a pixel is set and the one left of it is not, and end likewise. Both are found column by
    column, from what the spans of two neighbours do not share, and dealt out to their rows: counted, then placed.
    """
    turned = np.empty((max(len(spans), 16), 2), dtype=np.int64)
    begins = np.zeros(len(offsets), dtype=np.int64)
    places, ends = np.empty(height, dtype=np.int64), np.empty(height, dtype=np.int64)
    count = np.int64(0)
    for mask in range(len(offsets) - 1):
        columns, bounds = cut_columns(spans, offsets[mask], offsets[mask + 1], height)
        top, bottom = height, np.int64(0)
        for i in range(len(columns)):
            top, bottom = min(top, columns[i, 1]), max(bottom, columns[i, 2])
        for y in range(top, bottom):
            places[y] = 0
        _deal(columns, bounds, -1, places, turned, -1, width)
        place = count
        for y in range(top, bottom):
            ends[y] = place
            place += places[y]
            places[y] = ends[y]
        if place > len(turned):
            turned = longer(turned, count, 2 * place)
        _deal(columns, bounds, -1, places, turned, 0, width)
        _deal(columns, bounds, 1, ends, turned, 1, width)
        count = _joined(turned, count, place)
        begins[mask + 1] = count
    return turned[:count], begins


@njit(cache=True)
def cut_columns(spans, first, last, height):  # type: ignore[no-untyped-def]
    """Spans first..last cut into columns, rows (x, top, bottom), and where each column begins among them."""
    count = np.int64(0)
    for i in range(first, last):
        count += (spans[i, 1] - 1) // height - spans[i, 0] // height + 1
    columns = np.empty((count, 3), dtype=np.int64)
    bounds = np.empty(count + 1, dtype=np.int64)
    n, groups = np.int64(0), np.int64(0)
    for i in range(first, last):
        position = spans[i, 0]
        while position < spans[i, 1]:
            x = position // height
            stop = min(spans[i, 1], (x + 1) * height)
            columns[n, 0], columns[n, 1], columns[n, 2] = x, position - x * height, stop - x * height
            if n == 0 or columns[n - 1, 0] != x:
                bounds[groups] = n
                groups += 1
            n, position = n + 1, stop
    bounds[groups] = n
    return columns, bounds[: groups + 1]


@njit(cache=True)
def _deal(columns, bounds, step, places, turned, side, width):  # type: ignore[no-untyped-def]
    """For each set pixel without a set neighbour `step` columns on: write its edge at its row's place, or count it.

    `side` is 0 to write starts and 1 to write stops; -1 to count.
    """
    for group in range(len(bounds) - 1):
        x = columns[bounds[group], 0]
        j, last = np.int64(0), np.int64(0)  # the neighbour's spans, none where the next column is farther
        if 0 <= group + step < len(bounds) - 1 and columns[bounds[group + step], 0] == x + step:
            j, last = bounds[group + step], bounds[group + step + 1]
        for i in range(bounds[group], bounds[group + 1]):
            y, bottom = columns[i, 1], columns[i, 2]
            while y < bottom:
                while j < last and columns[j, 2] <= y:
                    j += 1
                if j < last and columns[j, 1] <= y:
                    y = columns[j, 2]
                    continue
                free = min(bottom, columns[j, 1]) if j < last else bottom
                for row in range(y, free):
                    if side >= 0:
                        turned[places[row], side] = row * width + x + side
                    places[row] += 1
                y = free


@njit(cache=True)
def _joined(spans, first, last):  # type: ignore[no-untyped-def]
    """Join those of the spans first..last that touch, over the image's border; where they end thereafter."""
    n = first
    for i in range(first, last):
        if n > first and spans[n - 1, 1] == spans[i, 0]:
            spans[n - 1, 1] = spans[i, 1]
        else:
            spans[n, 0], spans[n, 1] = spans[i, 0], spans[i, 1]
            n += 1
    return n


@njit(cache=True)
def _written(spans, offsets, pixels):  # type: ignore[no-untyped-def]
    """The text of all masks, one after the other, where that of each ends, and how many pixels each has."""
    digits = 1
    while pixels >= 10:
        pixels, digits = pixels // 10, digits + 1
    text = np.empty(2 * (digits + 1) * len(spans), dtype=np.uint8)
    ends, areas = np.empty(len(offsets) - 1, dtype=np.int64), np.zeros(len(offsets) - 1, dtype=np.int64)
    n = 0
    for mask in range(len(ends)):
        for i in range(offsets[mask], offsets[mask + 1]):
            length = spans[i, 1] - spans[i, 0]
            areas[mask] += length
            n = _number(text, n, spans[i, 0], 32)
            n = _number(text, n, length, 124)
        ends[mask] = n
    return text[:n], ends, areas


@njit(cache=True)
def _number(text, n, value, mark):  # type: ignore[no-untyped-def]
    """Write a number's digits and the character `mark` behind them; where the text goes on."""
    count, rest = 1, value // 10
    while rest:
        count, rest = count + 1, rest // 10
    for k in range(count):
        text[n + count - 1 - k] = 48 + value % 10
        value //= 10
    text[n + count] = mark
    return n + count + 1
