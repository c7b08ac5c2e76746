"""Masks as runs straight from probability patches, pasted as torchvision or as detectron2 does.

Both interpolate a patch bilinearly in float32 and threshold once; they differ in where the patch lies. Work goes by
column of the box: the two neighbouring columns of the patch are combined once, and between two of its rows the value
changes in one direction alone, so that a bisection finds where it passes the threshold. The cost follows the width of
a box and the rows of its patch, not the pixels.
"""

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.runs import Runs
from tis_ray.ops.span_buffer import longer

Pasting = Literal["torchvision", "detectron2"]

_FARTHEST_PX = 1e9  # of a box's corner: beyond it, float32 knows no pixels
_NEAR = np.float32(1e-6)  # values this close to the threshold may rise and fall by rounding: they are looked at singly
_ROOM = 1 << 20  # spans at first, 16 MiB that are touched only where they are written
_SHORT = 8  # rows between two of the patch's that are sooner looked at one by one than bisected


def paste(
    probabilities: NDArray[np.floating[Any]],
    boxes: Boxes,
    height: int,
    width: int,
    *,
    threshold: float = 0.5,
    pasting: Pasting = "torchvision",
) -> Runs:
    """The N masks of patches (N, M, M) in 0..1, row then column, over `boxes` (N, 4) xyxy in an image of this size.

    torchvision: `paste_masks_in_image(...) > threshold`: the patch gets a border of one cell of zeros, its box grows
    alike and is truncated to whole pixels.
    detectron2: `grid_sample` at the pixels' centres, outside the patch 0, `>= threshold`; a box without area is empty.

    No pixel differs from theirs but where the value lies within 1e-6 of the threshold. Raises `InputError` for shapes
    that do not fit, boxes that are not finite or lie beyond 1e9 px, a threshold of 0 or above 1, other pastings.
    """
    _check(probabilities, boxes, threshold, pasting)
    if len(boxes) == 0:
        return Runs.empty(height, width)
    size = probabilities.shape[1]
    ringed = np.zeros((len(boxes), size + 2, size + 2), dtype=np.float32)  # columns first
    ringed[:, 1:-1, 1:-1] = probabilities.transpose(0, 2, 1)
    lowest = np.float32(threshold)
    if pasting == "torchvision":
        frames = _grow(boxes, (size + 2) / size)
    else:
        frames = boxes.astype(np.float64)
        lowest = np.nextafter(lowest, np.float32(-1))  # above it is at least the threshold
    spans, offsets = _paste(ringed, ringed.max(axis=2), frames, height, width, lowest, pasting == "torchvision")
    return Runs(height, width, spans, offsets)


def _check(probabilities: NDArray[np.floating[Any]], boxes: Boxes, threshold: float, pasting: str) -> None:
    shape = probabilities.shape
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes: expected shape (N, 4); got {boxes.shape}")
    if len(shape) != 3 or shape[0] != len(boxes) or shape[1] != shape[2] or shape[1] == 0:
        raise InputError(f"probabilities: expected shape ({len(boxes)}, M, M), a patch for each box; got {shape}")
    strange = ~(np.abs(boxes) < _FARTHEST_PX).all(axis=1)  # NaN too
    if strange.any():
        i = int(np.argmax(strange))
        raise InputError(f"boxes: expected numbers within +-1e9 px; got {boxes[i].tolist()} at position {i}")
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected above 0 and at most 1; got {threshold}")
    if pasting not in ("torchvision", "detectron2"):
        raise InputError(f"pasting: expected torchvision or detectron2; got {pasting!r}")


def _grow(boxes: Boxes, factor: float) -> NDArray[np.float64]:
    """Boxes enlarged about their centres and truncated towards zero, in the float32 order of torchvision."""
    boxes = boxes.astype(np.float32)
    half_w = (boxes[:, 2] - boxes[:, 0]) * np.float32(0.5) * np.float32(factor)
    half_h = (boxes[:, 3] - boxes[:, 1]) * np.float32(0.5) * np.float32(factor)
    centre_x = (boxes[:, 2] + boxes[:, 0]) * np.float32(0.5)
    centre_y = (boxes[:, 3] + boxes[:, 1]) * np.float32(0.5)
    grown = np.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], axis=1)
    return np.asarray(np.trunc(grown), dtype=np.float64)


@njit(cache=True)
def _paste(ringed, highest, frames, height, width, threshold, truncated):  # type: ignore[no-untyped-def]
    """Spans (R, 2) and offsets (N + 1,) of patches (N, S, S) with their border, over `frames` (N, 4).

    highest: (N, S) the highest value of each column of a patch
    """
    size = ringed.shape[1]
    room = np.int64(height)
    for n in range(len(frames)):
        room += int(max(min(frames[n, 2], width) - max(frames[n, 0], 0.0), 0.0)) + 2
    spans = np.empty((_ROOM if room > _ROOM else room, 2), dtype=np.int64)  # one to a column, most often
    offsets = np.zeros(len(frames) + 1, dtype=np.int64)
    rows, row_shares = np.empty(height, dtype=np.int64), np.empty(height, dtype=np.float32)
    columns, column_shares = np.empty(width, dtype=np.int64), np.empty(width, dtype=np.float32)
    values = np.empty(size, dtype=np.float32)
    tops, firsts = np.empty(size, dtype=np.int64), np.empty(size + 1, dtype=np.int64)
    count = np.int64(0)
    for n in range(len(frames)):
        offsets[n] = count
        x_from, x_to = _axis(frames[n, 0], frames[n, 2], width, size, truncated, columns, column_shares)
        y_from, y_to = _axis(frames[n, 1], frames[n, 3], height, size, truncated, rows, row_shares)
        if x_from >= x_to or y_from >= y_to:
            continue
        pieces = _pieces(rows, y_from, y_to, tops, firsts)
        for x in range(x_from, x_to):
            left, share = columns[x], column_shares[x]
            if max(highest[n, left], highest[n, left + 1]) < threshold - _NEAR:
                continue
            rest = np.float32(1) - share
            for r in range(size):
                values[r] = rest * ringed[n, left, r] + share * ringed[n, left + 1, r]
            if count + (y_to - y_from) // 2 + 2 > len(spans):
                spans = longer(spans, count, count + count // 2 + height)
            count = _column(values, tops, firsts, pieces, row_shares, threshold, x * height, spans, offsets[n], count)
    offsets[-1] = count
    return spans[:count], offsets


@njit(cache=True)
def _axis(low, high, extent, size, truncated, cells, shares):  # type: ignore[no-untyped-def]
    """Pixels from..to that a frame reaches on one axis; for each, its value is `cells` and the next, mixed by `shares`.

    In float32 and in the order of PyTorch's upsampling and grid sampling.
    """
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    if truncated:
        first = int(low)
        length = max(int(high) - first + 1, 1)
        start, stop = max(first, 0), min(first + length, extent)
        scale = np.float32(size) / np.float32(length)
        for i in range(start, stop):
            source = max(scale * (np.float32(i - first) + half) - half, np.float32(0))
            cells[i] = min(int(source), size - 2)
            shares[i] = min(source - np.float32(cells[i]), one)
        return start, stop
    origin, side = np.float32(low), np.float32(high) - np.float32(low)
    if side <= 0:
        return 0, 0
    inner = np.float32(size - 2)
    start, stop = max(int(np.floor(low - side)), 0), min(int(np.ceil(high + side)), extent)
    begin = start
    for i in range(start, stop):
        normal = (np.float32(i) + half - origin) / side * two - one
        source = np.float32(np.float64(normal + one) * np.float64(inner / two) - 0.5)  # PyTorch rounds once here
        if source <= -one:
            begin = i + 1
        elif source >= inner:
            return begin, i
        else:
            cells[i] = int(np.floor(source)) + 1  # the border comes before cell 0
            shares[i] = source - np.floor(source)
    return begin, stop


@njit(cache=True)
def _pieces(rows, start, stop, tops, firsts):  # type: ignore[no-untyped-def]
    """How many stretches of pixel rows there are between two rows of the patch: its upper row, the first pixel row."""
    count = 0
    for y in range(start, stop):
        if count == 0 or rows[y] != tops[count - 1]:
            tops[count], firsts[count] = rows[y], y
            count += 1
    firsts[count] = stop
    return count


@njit(cache=True)
def _column(values, tops, firsts, pieces, shares, threshold, base, spans, begin, count):  # type: ignore[no-untyped-def]
    """Write the spans of one pixel column, whose pixel 0 has the number `base`; the count of spans thereafter."""
    low, high = threshold - _NEAR, threshold + _NEAR
    start = np.int64(-1)  # of the span that is open
    for k in range(pieces):
        a, b = values[tops[k]], values[tops[k] + 1]
        first, last = firsts[k], firsts[k + 1]
        if (a < low and b < low) or (a > high and b > high) or a == b:
            if (a > threshold) != (start >= 0):
                start, count = _turn(start, base + first, spans, begin, count)
            continue
        near, far = first, last
        if last - first > _SHORT:
            near, far = _crossing(a, b, shares, first, last, threshold)
        if first < near and (a > b) != (start >= 0):
            start, count = _turn(start, base + first, spans, begin, count)
        for y in range(near, far):
            if (_value(a, b, shares[y]) > threshold) != (start >= 0):
                start, count = _turn(start, base + y, spans, begin, count)
        if far < last and (b > a) != (start >= 0):
            start, count = _turn(start, base + far, spans, begin, count)
    if start >= 0:
        start, count = _turn(start, base + firsts[pieces], spans, begin, count)
    return count


@njit(cache=True)
def _turn(start, position, spans, begin, count):  # type: ignore[no-untyped-def]
    """Open a span at `position`, or close the open one there; one that touches the mask's last lengthens it."""
    if start < 0:
        return position, count
    if count > begin and spans[count - 1, 1] == start:
        spans[count - 1, 1] = position
    else:
        spans[count, 0], spans[count, 1] = start, position
        count += 1
    return np.int64(-1), count


@njit(cache=True)
def _value(a, b, share):  # type: ignore[no-untyped-def]
    return (np.float32(1) - share) * a + share * b


@njit(cache=True)
def _crossing(a, b, shares, first, last, threshold):  # type: ignore[no-untyped-def]
    """Rows near..far of first..last that lie about the threshold; before and after them the value is clear of it."""
    rising = b > a
    near, far = first, last
    while near < far:
        middle = (near + far) // 2
        if (_value(a, b, shares[middle]) > threshold) == rising:
            far = middle
        else:
            near = middle + 1
    while near > first and abs(_value(a, b, shares[near - 1]) - threshold) <= _NEAR:
        near -= 1
    while far < last and abs(_value(a, b, shares[far]) - threshold) <= _NEAR:
        far += 1
    return near, far
