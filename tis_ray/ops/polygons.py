"""The outline of a mask as COCO polygons along pixel edges, exact to the pixel.

A COCO `segmentation` list is the union of its polygons and knows no holes. A hole is therefore joined to the
outline around it by a bridge of no width, walked there and back: filling by the even-odd rule, as COCO's own
rasteriser does, leaves the hole empty and the bridge invisible.

Outlines are directed with the set pixel on their right hand (y points down), so they run clockwise. Pixels that touch
by a corner alone are not connected. An outline is a ring of vertical segments, each as long as possible: up along the
left sides of pixels, down along right sides. They are found where the spans of two neighbouring columns differ, so
that time and memory follow the outline, not the area.
"""

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops import rle as rle_ops
from tis_ray.ops.rle import Rle
from tis_ray.ops.row_runs import cut_columns
from tis_ray.ops.runs import Runs

Polygon = list[int]  # x1, y1, x2, y2, ...


def from_runs(runs: Runs) -> list[list[Polygon]]:
    """The COCO polygons of each of the N masks in their image frame; none for an empty mask.

    One polygon for each group of pixels connected by sides, of whole-pixel corners without repeats on a line.
    """
    spans, ends = np.ascontiguousarray(runs.spans), runs.offsets.tolist()
    return [_polygons(spans, first, last, runs.height) for first, last in pairwise(ends)]


def from_rle(rle: Rle) -> list[Polygon]:
    """The COCO polygons of one RLE, as `from_runs`."""
    return from_runs(rle_ops.to_runs([rle], *rle["size"]))[0]


def _polygons(spans: NDArray[np.int64], first: int, last: int, height: int) -> list[Polygon]:
    if first == last:
        return []
    segments, follow, before, is_hole, bridges = _outlines(spans, first, last, height)
    if len(bridges):  # an outline meets the bridges of a segment on its way up
        bridges = bridges[np.lexsort((-segments[bridges[:, 1], 1], bridges[:, 0]))]
    corners, ends = _walk(segments, follow, before, is_hole, bridges)
    flat, stops = corners.ravel().tolist(), (2 * ends).tolist()
    return [flat[start:stop] for start, stop in pairwise([0, *stops])]


@njit(cache=True)
def _outlines(spans, first, last, height):  # type: ignore[no-untyped-def]
    """The vertical segments of one mask, which follows each and comes before it, which bound holes; the bridges."""
    columns, bounds = cut_columns(spans, first, last, height)
    segments, ups, follow = _link(columns, bounds)
    before, is_hole, doors = _rings(segments, follow)
    return segments, follow, before, is_hole, _bridges(columns, bounds, segments, ups, doors)


@njit(cache=True)
def _link(columns, bounds):  # type: ignore[no-untyped-def]
    """All vertical segments, rows (x, y from, y to, span); the first upward one of each span; which one follows each.

    A segment ends at the top or at the bottom edge of a span; that edge, and those of the next columns that go on in
    a line, lead to the segment that follows.
    """
    count = len(columns)
    segments = np.empty((4 * count, 4), dtype=np.int64)
    ends = np.empty(4 * count, dtype=np.int64)  # 2 * span where a segment ends at its top edge, + 1 at its bottom
    leads = np.full(2 * count, -1, dtype=np.int64)  # where the edges of spans lead, numbered likewise
    ups = np.empty(count + 1, dtype=np.int64)
    n = np.int64(0)
    for group in range(len(bounds) - 1):
        n = _sides(columns, bounds, group, -1, segments, ends, leads, ups, n)
    ups[count] = n
    for group in range(len(bounds) - 1):
        n = _sides(columns, bounds, group, 1, segments, ends, leads, ups, n)
    _straighten(columns, bounds, leads)
    follow = np.empty(2 * n, dtype=np.int64)  # room for what bridges add: fewer than there are segments
    for segment in range(n):
        follow[segment] = leads[ends[segment]]
    return segments[:n], ups, follow


@njit(cache=True)
def _sides(columns, bounds, group, step, segments, ends, leads, ups, n):  # type: ignore[no-untyped-def]
    """Append the sides of a column's spans towards the column at `step`: left sides (-1) go up, right ones (1) down."""
    down = step > 0
    x = columns[bounds[group], 0]
    j = last = np.int64(0)  # the spans of the neighbour, none where the next column is farther
    if 0 <= group + step < len(bounds) - 1 and columns[bounds[group + step], 0] == x + step:
        j, last = bounds[group + step], bounds[group + step + 1]
    for i in range(bounds[group], bounds[group + 1]):
        y, bottom = columns[i, 1], columns[i, 2]
        if not down:
            ups[i] = n
        while y < bottom:
            while j < last and columns[j, 2] <= y:
                j += 1
            if j < last and columns[j, 1] <= y:
                y = columns[j, 2]
                continue
            free = min(bottom, columns[j, 1]) if j < last else bottom
            # Either end lies at an edge of this span, or else at one of the neighbour's, which is j or the one before.
            upper = 2 * i if y == columns[i, 1] else 2 * (j - 1) + 1
            lower = 2 * i + 1 if free == bottom else 2 * j
            segments[n, 0], segments[n, 3] = x + down, i
            segments[n, 1], segments[n, 2] = (y, free) if down else (free, y)
            leads[upper if down else lower] = n
            ends[n] = lower if down else upper
            n += 1
            y = free
    return n


@njit(cache=True)
def _straighten(columns, bounds, leads):  # type: ignore[no-untyped-def]
    """Top edges run right, bottom edges left: where the next column's goes on in a line, it leads where that leads."""
    for backwards in range(2):
        for turn in range(len(bounds) - 2):
            left = len(bounds) - 3 - turn if backwards == 0 else turn
            if columns[bounds[left], 0] + 1 != columns[bounds[left + 1], 0]:
                continue
            i, j = bounds[left], bounds[left + 1]
            while i < bounds[left + 1] and j < bounds[left + 2]:
                if backwards == 0 and columns[i, 1] == columns[j, 1]:
                    leads[2 * i] = leads[2 * j]
                elif backwards == 1 and columns[i, 2] == columns[j, 2]:
                    leads[2 * j + 1] = leads[2 * i + 1]
                if columns[i, 2] <= columns[j, 2]:
                    i += 1
                else:
                    j += 1


@njit(cache=True)
def _rings(segments, follow):  # type: ignore[no-untyped-def]
    """What comes before each segment, whether it bounds a hole, and a leftmost segment of each hole."""
    count = len(segments)
    before, is_hole = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    doors, holes = np.empty(count, dtype=np.int64), 0
    for first in range(count):
        if before[first] >= 0:
            continue
        segment, area, door = first, np.int64(0), first
        while before[follow[segment]] < 0:
            area += segments[segment, 0] * (segments[segment, 2] - segments[segment, 1])
            if segments[segment, 0] < segments[door, 0]:
                door = segment
            before[follow[segment]] = segment
            segment = follow[segment]
        if area < 0:
            doors[holes] = door
            holes += 1
            while not is_hole[segment]:
                is_hole[segment] = True
                segment = follow[segment]
    return before, is_hole, doors[:holes]


@njit(cache=True)
def _bridges(columns, bounds, segments, ups, doors):  # type: ignore[no-untyped-def]
    """For each hole the upward segment left of its door's upper end, rows (segment, door).

    The door is a leftmost segment and runs down; the pixels left of its first one are set as far as that segment.
    """
    groups = np.empty(len(columns), dtype=np.int64)
    for group in range(len(bounds) - 1):
        for span in range(bounds[group], bounds[group + 1]):
            groups[span] = group
    bridges = np.empty((len(doors), 2), dtype=np.int64)
    for k in range(len(doors)):
        y, span, found = segments[doors[k], 1], segments[doors[k], 3], True
        group = groups[span]
        while found:
            found = False
            if group > 0 and columns[bounds[group - 1], 0] + 1 == columns[bounds[group], 0]:
                low, high = bounds[group - 1], bounds[group]
                while low < high:  # the first span that ends below y
                    middle = (low + high) // 2
                    if columns[middle, 2] > y:
                        high = middle
                    else:
                        low = middle + 1
                if low < bounds[group] and columns[low, 1] <= y:
                    span, group, found = low, group - 1, True
        segment = ups[span]
        while segments[segment, 1] <= y:  # of the span's left sides the one that the row meets
            segment += 1
        bridges[k, 0], bridges[k, 1] = segment, doors[k]
    return bridges


@njit(cache=True)
def _splice(segments, follow, before, bridges):  # type: ignore[no-untyped-def]
    """Lead each outline over its bridges: to the hole's door, and from before the door to what is left of the segment.

    What is left of a segment after bridge k is the part `len(segments) + k`. Returns where each part ends: at the next
    bridge, or with its segment.
    """
    count = len(segments)
    tails, stops = np.empty(count, dtype=np.int64), np.empty(count + len(bridges), dtype=np.int64)
    for segment in range(count):
        tails[segment], stops[segment] = segment, segments[segment, 2]
    for k in range(len(bridges)):
        segment, door = bridges[k, 0], bridges[k, 1]
        follow[count + k], stops[count + k] = follow[tails[segment]], stops[tails[segment]]
        follow[tails[segment]], stops[tails[segment]] = door, segments[door, 1]
        tails[segment] = count + k
    for k in range(len(bridges)):
        follow[tails[before[bridges[k, 1]]]] = count + k
    return stops


@njit(cache=True)
def _walk(segments, follow, before, is_hole, bridges):  # type: ignore[no-untyped-def]
    """Corners of the rings, each from the upper end of its first segment, and where each ring ends among them.

    `follow` is changed: the bridges are built into it.
    """
    stops = _splice(segments, follow, before, bridges)
    count = len(segments)
    corners = np.empty((2 * count + 4 * len(bridges), 2), dtype=np.int64)
    ends, rings, n = np.empty(count, dtype=np.int64), 0, 0
    seen = np.zeros(count, dtype=np.bool_)
    for first in range(count):
        if seen[first] or is_hole[first]:
            continue
        begin, part = n, follow[first]
        corners[n, 0], corners[n, 1] = segments[first, 0], stops[first]
        n += 1
        seen[first] = True
        while part != first:
            if part < count:
                seen[part] = True
                x, start = segments[part, 0], segments[part, 1]
            else:
                segment, door = bridges[part - count, 0], bridges[part - count, 1]
                x, start = segments[segment, 0], segments[door, 1]
                n = _push(corners, begin, n, segments[door, 0], start)
            n = _push(corners, begin, n, x, start)
            n = _push(corners, begin, n, x, stops[part])
            part = follow[part]
        n = _push(corners, begin, n, segments[first, 0], segments[first, 1])
        ends[rings] = n
        rings += 1
    return corners[:n], ends[:rings]


@njit(cache=True)
def _push(corners, begin, n, x, y):  # type: ignore[no-untyped-def]
    """Append a corner; one that goes on in the last direction takes the last one's place. Turning back does not."""
    if corners[n - 1, 0] == x and corners[n - 1, 1] == y:
        return n
    if n - begin >= 2:
        ux, uy = corners[n - 1, 0] - corners[n - 2, 0], corners[n - 1, 1] - corners[n - 2, 1]
        vx, vy = x - corners[n - 1, 0], y - corners[n - 1, 1]
        if ux * vy == uy * vx and ux * vx + uy * vy > 0:
            n -= 1
    corners[n, 0], corners[n, 1] = x, y
    return n + 1
