"""The outline of a mask as COCO polygons along pixel edges, exact to the pixel.

A COCO `segmentation` list is the union of its polygons and knows no holes. A hole is therefore joined to the
outline around it by a bridge of no width, walked there and back: filling by the even-odd rule, as COCO's own
rasteriser does, leaves the hole empty and the bridge invisible.

Edges are directed with the set pixel on their right hand (y points down), so outlines run clockwise. Pixels
that touch by a corner alone are not connected.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.ops.rle import Rle, decode_crop

# The side of a pixel an edge runs along, in walking order: top, right, bottom, left.
_FORWARD_X = np.array([1, 0, -1, 0])
_FORWARD_Y = np.array([0, 1, 0, -1])
_START_X = np.array([0, 1, 1, 0])  # start corner of each side, from the pixel's top-left corner
_START_Y = np.array([0, 0, 1, 1])


def from_rle(rle: Rle) -> list[list[int]]:
    """COCO polygons `[x1, y1, x2, y2, ...]` of an RLE in its image frame; none for an empty mask."""
    crop, offset = decode_crop(rle)
    return from_crop(crop, offset=offset)


def from_crop(crop: NDArray[np.uint8], *, offset: tuple[int, int] = (0, 0)) -> list[list[int]]:
    """COCO polygons of a mask (h, w), set where not zero, whose top-left corner lies at `offset` x, y.

    One polygon for each group of pixels connected by sides, of whole-pixel corners without repeats on a line.
    """
    padded = np.zeros((crop.shape[0] + 2, crop.shape[1] + 2), dtype=np.bool_)
    padded[1:-1, 1:-1] = crop != 0
    corners, lengths = _outlines(padded)
    corners = corners + np.array([offset[0] - 1, offset[1] - 1])
    return [ring.ravel().tolist() for ring in np.split(corners, np.cumsum(lengths)[:-1]) if len(ring)]


@njit(cache=True)
def _outlines(mask):  # type: ignore[no-untyped-def]
    """Corners (K, 2) of all rings one after the other, and the number of corners of each ring."""
    follow, count = _link(mask)
    extra_x = np.empty(count, dtype=np.int64)  # start points of bridge edges, numbered from mask.size * 4
    extra_y = np.empty(count, dtype=np.int64)
    is_hole = _join_holes(mask, follow, extra_x, extra_y)
    return _walk(mask, follow, extra_x, extra_y, is_hole, count)


@njit(cache=True)
def _link(mask):  # type: ignore[no-untyped-def]
    """`follow[edge]` is the edge that comes next, -1 where there is no edge; edge = pixel * 4 + side."""
    height, width = mask.shape
    follow = np.full(mask.size * 5, -1, dtype=np.int64)  # the last fifth is for bridges: two to a hole
    count = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not mask[y, x]:
                continue
            for side in range(4):
                dx, dy = _FORWARD_X[side], _FORWARD_Y[side]
                out_x, out_y = dy, -dx  # to the left hand
                if mask[y + out_y, x + out_x]:
                    continue
                if not mask[y + dy, x + dx]:
                    after = (y * width + x) * 4 + (side + 1) % 4
                elif not mask[y + dy + out_y, x + dx + out_x]:
                    after = ((y + dy) * width + x + dx) * 4 + side
                else:
                    after = ((y + dy + out_y) * width + x + dx + out_x) * 4 + (side + 3) % 4
                follow[(y * width + x) * 4 + side] = after
                count += 1
    return follow, count


@njit(cache=True)
def _join_holes(mask, follow, extra_x, extra_y):  # type: ignore[no-untyped-def]
    """Splice every hole into the outline left of it; returns which edges bound a hole."""
    width = mask.shape[1]
    edges = mask.size * 4
    seen = np.zeros(edges, dtype=np.bool_)
    is_hole = np.zeros(edges, dtype=np.bool_)
    before = np.full(edges, -1, dtype=np.int64)
    doors = [np.int64(0) for _ in range(0)]  # for each hole the leftmost edge that runs down
    for first in range(edges):
        if follow[first] < 0 or seen[first]:
            continue
        edge, area, door = first, 0, first
        while not seen[edge]:
            seen[edge] = True
            side, pixel = edge % 4, edge // 4
            x = pixel % width
            # Twice nothing: the area is the sum of x over vertical edges, positive going down on the right side.
            if side == 1:
                area += x + 1
                if door % 4 != 1 or x < (door // 4) % width:
                    door = edge
            elif side == 3:
                area -= x
            before[follow[edge]] = edge
            edge = follow[edge]
        if area < 0:
            doors.append(np.int64(door))
            while not is_hole[edge]:
                is_hole[edge] = True
                edge = follow[edge]
    for i in range(len(doors)):
        _bridge(mask, follow, before[doors[i]], doors[i], edges + 2 * i, extra_x, extra_y)
    return is_hole


@njit(cache=True)
def _bridge(mask, follow, before, door, bridge, extra_x, extra_y):  # type: ignore[no-untyped-def]
    """Walk left from the start of edge `door` to the next outline, and lead that one here and back."""
    width = mask.shape[1]
    y, x = (door // 4) // width, (door // 4) % width
    left = x
    while mask[y, left - 1]:
        left -= 1
    outline = (y * width + left) * 4 + 3  # runs up along the left side and ends at (left, y)
    there, back = bridge, bridge + 1
    extra_x[there - mask.size * 4], extra_y[there - mask.size * 4] = left, y
    extra_x[back - mask.size * 4], extra_y[back - mask.size * 4] = x + 1, y
    follow[back] = follow[outline]
    follow[outline] = there
    follow[there] = door
    follow[before] = back


@njit(cache=True)
def _walk(mask, follow, extra_x, extra_y, is_hole, count):  # type: ignore[no-untyped-def]
    width = mask.shape[1]
    edges = mask.size * 4
    corners = np.empty((2 * count + 1, 2), dtype=np.int64)
    lengths = [np.int64(0) for _ in range(0)]
    seen = np.zeros(len(follow), dtype=np.bool_)
    n = 0
    for first in range(edges):
        if follow[first] < 0 or seen[first] or is_hole[first] or first % 4 != 0:
            continue
        begin, edge = n, first
        while not seen[edge]:
            seen[edge] = True
            if edge >= edges:
                x, y = extra_x[edge - edges], extra_y[edge - edges]
            else:
                pixel, side = edge // 4, edge % 4
                x, y = pixel % width + _START_X[side], pixel // width + _START_Y[side]
            if n - begin >= 2 and _straight(corners[n - 2], corners[n - 1], x, y):
                n -= 1
            corners[n, 0], corners[n, 1] = x, y
            n += 1
            edge = follow[edge]
        if n - begin >= 3 and _straight(corners[n - 2], corners[n - 1], corners[begin, 0], corners[begin, 1]):
            n -= 1
        lengths.append(np.int64(n - begin))
    sizes = np.empty(len(lengths), dtype=np.int64)
    for i in range(len(lengths)):
        sizes[i] = lengths[i]
    return corners[:n].copy(), sizes


@njit(cache=True)
def _straight(a, b, x, y):  # type: ignore[no-untyped-def]
    """Whether a -> b -> (x, y) goes on in one direction; turning back on a bridge does not."""
    ux, uy, vx, vy = b[0] - a[0], b[1] - a[1], x - b[0], y - b[1]
    return ux * vy == uy * vx and ux * vx + uy * vy > 0
