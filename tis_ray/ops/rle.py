"""COCO run-length encoding straight from mask patches and crops: no full-frame mask is ever formed.

An RLE is COCO's dict `{"size": [height, width], "counts": str}`: runs of 0s and 1s in column-major order, the
first run counting 0s, packed into COCO's printable string. Runs are written column by column within the
mask's own columns, so that the cost follows the area of the box, not of the image.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops.boxes import Boxes

Counts = NDArray[np.int64]  # (K,) run lengths, zeros first
_ALPHABET = bytes(range(48, 48 + 64))


class Rle(TypedDict):
    """COCO's compressed RLE; `size` is [height, width], `counts` an ASCII string."""

    size: list[int]
    counts: str


def encode_patches(
    probabilities: NDArray[np.floating[Any]],
    boxes: Boxes,
    height: int,
    width: int,
    *,
    threshold: float = 0.5,
) -> list[Rle]:
    """Masks of an image from their probability patches, pasted as torchvision does and thresholded once.

    probabilities: (N, M, M) in 0..1; boxes: (N, 4) xyxy in the image frame, possibly beyond its borders.
    Equals `torchvision...paste_masks_in_image(...) > threshold` followed by COCO's encoder: the patch is padded
    by one pixel, its box enlarged alike and truncated to whole pixels, and interpolated bilinearly in float32.
    """
    if len(probabilities) != len(boxes):
        raise InputError(f"probabilities: expected one patch for each of {len(boxes)} boxes; got {len(probabilities)}")
    if len(boxes) == 0:
        return []
    size = probabilities.shape[-1]
    padded = np.zeros((len(boxes), size + 2, size + 2), dtype=np.float32)
    padded[:, 1:-1, 1:-1] = probabilities
    grown = _grow(boxes, (size + 2) / size)
    return [
        _pack(_patch_counts(padded[i], grown[i], height, width, np.float32(threshold)), height, width)
        for i in range(len(boxes))
    ]


def encode_crops(crops: Sequence[NDArray[np.uint8]], offsets: NDArray[np.int32], height: int, width: int) -> list[Rle]:
    """Exact masks (h_i, w_i), non-zero where set, whose top-left pixels lie at `offsets` (N, 2) x, y.

    What lies outside the image is cut off.
    """
    return [
        _pack(_crop_counts(np.ascontiguousarray(crop), int(x), int(y), height, width), height, width)
        for crop, (x, y) in zip(crops, offsets, strict=True)
    ]


def decode_crop(rle: Rle) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The mask as the smallest crop (h, w) of 0/1 that holds it, and the crop's x, y; (0, 0) in size if empty.

    Raises `InputError` where the runs do not fill the image exactly.
    """
    height, width = rle["size"]
    counts = counts_of(rle)
    _check_fill(counts, height, width)
    x1, y1, x2, y2 = _bounds(counts, height)
    if x2 <= x1:
        return np.zeros((0, 0), dtype=np.uint8), (0, 0)
    return _decode(counts, height, x1, y1, x2, y2), (int(x1), int(y1))


def from_counts(counts: Sequence[int] | Counts, height: int, width: int) -> Rle:
    """The compressed RLE of uncompressed run lengths. Raises `InputError` where they do not add up."""
    runs = np.asarray(counts, dtype=np.int64)
    _check_fill(runs, height, width)
    return _pack(runs, height, width)


def counts_of(rle: Rle) -> Counts:
    """Run lengths of a compressed RLE, zeros first, as the text says them. Raises `InputError` for other text."""
    text = rle["counts"]
    raw = text.encode("utf-8") if isinstance(text, str) else text
    if raw.strip(_ALPHABET):
        raise InputError(f"counts: expected COCO's characters '0' to 'o'; got {raw[:40]!r}")
    return np.asarray(_unpack_string(np.frombuffer(raw, dtype=np.uint8)))


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Number of set pixels of each mask, (N,)."""
    return np.array([counts_of(rle)[1::2].sum() for rle in rles], dtype=np.int64)


def _check_fill(counts: Counts, height: int, width: int) -> None:
    pixels = height * width  # each run is compared as well, so that no sum of huge runs wraps round to it
    if counts.ndim != 1 or ((counts < 0) | (counts > pixels)).any() or int(counts.sum()) != pixels:
        raise InputError(
            f"counts: expected runs >= 0 that add up to {height} x {width} = {pixels}; got sum {counts.sum()}"
        )


def _pack(counts: Counts, height: int, width: int) -> Rle:
    return {"size": [int(height), int(width)], "counts": _pack_string(counts).tobytes().decode("ascii")}


def _grow(boxes: Boxes, factor: float) -> NDArray[np.int64]:
    """Boxes enlarged about their centres and truncated towards zero, in the float32 order of torchvision."""
    boxes = boxes.astype(np.float32)
    half_w = (boxes[:, 2] - boxes[:, 0]) * np.float32(0.5) * np.float32(factor)
    half_h = (boxes[:, 3] - boxes[:, 1]) * np.float32(0.5) * np.float32(factor)
    centre_x = (boxes[:, 2] + boxes[:, 0]) * np.float32(0.5)
    centre_y = (boxes[:, 3] + boxes[:, 1]) * np.float32(0.5)
    grown = np.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], axis=1)
    return grown.astype(np.int64)


@njit(cache=True)
def _patch_counts(patch, box, height, width, threshold):  # type: ignore[no-untyped-def]
    size = patch.shape[0]
    w, h = max(box[2] - box[0] + 1, 1), max(box[3] - box[1] + 1, 1)
    x_from, x_to = max(box[0], 0), min(box[0] + w, width)
    y_from, y_to = max(box[1], 0), min(box[1] + h, height)
    scale_x, scale_y = np.float32(size) / np.float32(w), np.float32(size) / np.float32(h)
    runs = [np.int64(0) for _ in range(0)]
    last = np.int64(0)  # pixels before this one have been written
    one, half = np.float32(1), np.float32(0.5)
    for x in range(x_from, x_to):
        source_x = max(scale_x * (np.float32(x - box[0]) + half) - half, np.float32(0))
        left = int(source_x)
        right = min(left + 1, size - 1)
        share_x = source_x - np.float32(left)
        start = np.int64(-1)
        for y in range(y_from, y_to):
            source_y = max(scale_y * (np.float32(y - box[1]) + half) - half, np.float32(0))
            top = int(source_y)
            bottom = min(top + 1, size - 1)
            share_y = source_y - np.float32(top)
            value = (one - share_y) * ((one - share_x) * patch[top, left] + share_x * patch[top, right]) + share_y * (
                (one - share_x) * patch[bottom, left] + share_x * patch[bottom, right]
            )
            if value > threshold:
                if start < 0:
                    start = x * height + y
            elif start >= 0:
                last = _add_run(runs, last, start, x * height + y)
                start = np.int64(-1)
        if start >= 0:
            last = _add_run(runs, last, start, x * height + y_to)
    return _close_runs(runs, last, height * width)


@njit(cache=True)
def _crop_counts(crop, x0, y0, height, width):  # type: ignore[no-untyped-def]
    runs = [np.int64(0) for _ in range(0)]
    last = np.int64(0)
    y_from, y_to = max(y0, 0), min(y0 + crop.shape[0], height)
    for x in range(max(x0, 0), min(x0 + crop.shape[1], width)):
        start = np.int64(-1)
        for y in range(y_from, y_to):
            if crop[y - y0, x - x0]:
                if start < 0:
                    start = x * height + y
            elif start >= 0:
                last = _add_run(runs, last, start, x * height + y)
                start = np.int64(-1)
        if start >= 0:
            last = _add_run(runs, last, start, x * height + y_to)
    return _close_runs(runs, last, height * width)


@njit(cache=True)
def _add_run(runs, last, start, stop):  # type: ignore[no-untyped-def]
    """Append the run start..stop of ones; a run that touches the one before it lengthens that one."""
    if len(runs) and start == last:
        runs[-1] += stop - start
    else:
        runs.append(start - last)
        runs.append(stop - start)
    return stop


@njit(cache=True)
def _close_runs(runs, last, total):  # type: ignore[no-untyped-def]
    if last < total or len(runs) == 0:
        runs.append(total - last)
    counts = np.empty(len(runs), dtype=np.int64)
    for i in range(len(runs)):
        counts[i] = runs[i]
    return counts


@njit(cache=True)
def _bounds(counts, height):  # type: ignore[no-untyped-def]
    """x1, y1, x2, y2 of the set pixels; zeros where there are none."""
    x1, y1, x2, y2 = np.int64(1 << 40), height, np.int64(0), 0
    position = np.int64(0)
    for i in range(len(counts)):
        if i % 2 and counts[i] > 0:
            first, final = position, position + counts[i] - 1
            x1, x2 = min(x1, first // height), max(x2, final // height + 1)
            if first // height == final // height:
                y1, y2 = min(y1, first % height), max(y2, final % height + 1)
            else:
                y1, y2 = 0, height
        position += counts[i]
    if x2 == 0:
        return np.int64(0), 0, np.int64(0), 0
    return x1, y1, x2, y2


@njit(cache=True)
def _decode(counts, height, x1, y1, x2, y2):  # type: ignore[no-untyped-def]
    crop = np.zeros((y2 - y1, x2 - x1), dtype=np.uint8)
    position = np.int64(0)
    for i in range(len(counts)):
        if i % 2:
            for pixel in range(position, position + counts[i]):
                crop[pixel % height - y1, pixel // height - x1] = 1
        position += counts[i]
    return crop


@njit(cache=True)
def _pack_string(counts):  # type: ignore[no-untyped-def]
    """COCO's string: each count (from the third on, its difference to the one two before) in 5-bit groups."""
    out = np.empty(len(counts) * 13 + 1, dtype=np.uint8)
    n = 0
    for i in range(len(counts)):
        value = counts[i] - counts[i - 2] if i > 2 else counts[i]
        more = True
        while more:
            group = value & 0x1F
            value >>= 5
            more = value != -1 if group & 0x10 else value != 0
            out[n] = (group | 0x20 if more else group) + 48
            n += 1
    return out[:n].copy()


@njit(cache=True)
def _unpack_string(text):  # type: ignore[no-untyped-def]
    counts = np.empty(len(text), dtype=np.int64)
    m, p = 0, 0
    while p < len(text):
        value, shift, more = np.int64(0), 0, True
        while more and p < len(text):
            group = np.int64(text[p]) - 48
            value |= (group & 0x1F) << shift
            more = (group & 0x20) != 0
            shift += 5
            p += 1
            if not more and group & 0x10:
                value |= np.int64(-1) << shift
        if m > 2:
            value += counts[m - 2]
        counts[m] = value
        m += 1
    return counts[:m].copy()
