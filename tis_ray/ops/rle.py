"""COCO's run-length encoding: its strings to and from runs, all masks of an image in one call.

An RLE is COCO's dict `{"size": [height, width], "counts": str}`: runs of 0s and 1s in column-major order, the first
run counting 0s, packed into COCO's printable string. No full-frame mask is ever formed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypedDict

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.ops import crop_runs
from tis_ray.ops.runs import Runs

Counts = NDArray[np.int64]  # (K,) run lengths, zeros first


class Rle(TypedDict):
    """COCO's compressed RLE; `size` is [height, width], `counts` an ASCII string."""

    size: list[int]
    counts: str


def from_runs(runs: Runs) -> list[Rle]:
    """The N masks as COCO writes them, byte for byte."""
    text, ends = _pack(runs.spans, runs.offsets, runs.height * runs.width)
    packed, stops = text.tobytes().decode("ascii"), ends.tolist()
    height, width = int(runs.height), int(runs.width)
    return [{"size": [height, width], "counts": packed[start:stop]} for start, stop in pairwise([0, *stops])]


def to_runs(rles: Sequence[Rle], height: int, width: int) -> Runs:
    """The N masks of an image of this size; runs that touch become one.

    Raises `InputError` naming the position of a mask of another size, with other characters than COCO's, or whose runs
    do not fill the image.
    """
    for i, rle in enumerate(rles):
        if list(rle["size"]) != [height, width]:
            raise InputError(f"size: expected [{height}, {width}]; got {rle['size']} at position {i}")
    return _runs_of(*_counts(rles), height, width)


def encode_crops(crops: Sequence[NDArray[np.uint8]], offsets: NDArray[np.int32], height: int, width: int) -> list[Rle]:
    """Exact masks (h_i, w_i), non-zero where set, whose top-left pixels lie at `offsets` (N, 2) x, y.

    What lies outside the image is cut off.
    """
    return from_runs(crop_runs.of_crops(crops, offsets, height, width))


def decode_crop(rle: Rle) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The mask as the smallest crop (h, w) of 0/1 that holds it, and the crop's x, y; (0, 0) in size if empty.

    Raises `InputError` where the runs do not fill the image exactly.
    """
    height, width = rle["size"]
    crops, offsets = crop_runs.to_crops(to_runs([rle], height, width))
    return crops[0], (int(offsets[0, 0]), int(offsets[0, 1]))


def from_counts(counts: Sequence[int] | Counts, height: int, width: int) -> Rle:
    """The compressed RLE of uncompressed run lengths. Raises `InputError` where they do not add up."""
    lengths = np.asarray(counts, dtype=np.int64)
    if lengths.ndim != 1:
        raise InputError(f"counts: expected a list of numbers; got one of shape {lengths.shape}")
    return from_runs(_runs_of(lengths, np.array([0, len(lengths)]), height, width))[0]


def counts_of(rle: Rle) -> Counts:
    """Run lengths of a compressed RLE, zeros first, as the text says them. Raises `InputError` for other text."""
    return _counts([rle])[0]


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Number of set pixels of each mask, (N,); masks may be of different images."""
    counts, offsets = _counts(rles)
    return np.asarray(_areas(counts, offsets))


def _counts(rles: Sequence[Rle]) -> tuple[Counts, NDArray[np.int64]]:
    """Run lengths of all masks, one mask after the other, and where each begins (N + 1,)."""
    texts = [_bytes(rle["counts"], i) for i, rle in enumerate(rles)]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    counts, offsets, wrong = _unpack(np.frombuffer(b"".join(texts), dtype=np.uint8), ends)
    if wrong >= 0:
        raise InputError(
            f"counts: expected COCO's characters '0' to 'o'; got {texts[wrong][:40]!r} at position {wrong}"
        )
    return counts, offsets


def _bytes(text: str | bytes, position: int) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, bytes):
        return text
    raise InputError(f"counts: expected COCO's string; got {type(text).__name__} at position {position}")


def _runs_of(counts: Counts, offsets: NDArray[np.int64], height: int, width: int) -> Runs:
    spans, span_offsets, wrong = _spans(counts, offsets, height * width)
    if wrong >= 0:
        found = counts[offsets[wrong] : offsets[wrong + 1]]
        raise InputError(
            f"counts: expected runs >= 0 that add up to {height} x {width} = {height * width}; "
            f"got sum {found.sum()} at position {wrong}"
        )
    return Runs(height, width, spans, span_offsets)


@njit(cache=True)
def _pack(spans, offsets, pixels):  # type: ignore[no-untyped-def]
    """COCO's strings of all masks, one after the other, and where each ends.

    A number is a run's length, from the fourth on less the length two runs before, in groups of 5 bits.
    """
    groups, bits = 1, 4  # the highest bit of the last group is the sign
    while pixels >> bits:
        groups, bits = groups + 1, bits + 5
    text = np.empty((2 * len(spans) + len(offsets)) * groups, dtype=np.uint8)
    ends = np.empty(len(offsets) - 1, dtype=np.int64)
    n = 0
    for mask in range(len(ends)):
        last, zeros, ones = np.int64(0), np.int64(0), np.int64(0)
        first = offsets[mask]
        for i in range(first, offsets[mask + 1]):
            start, stop = spans[i, 0], spans[i, 1]
            # COCO subtracts from the fourth number on: the second run of zeros is written as it is
            n = _write(text, n, start - last - (zeros if i > first + 1 else 0))
            n = _write(text, n, stop - start - (ones if i > first else 0))
            last, zeros, ones = stop, start - last, stop - start
        if last < pixels or offsets[mask + 1] == first:
            n = _write(text, n, pixels - last - (zeros if offsets[mask + 1] > first + 1 else 0))
        ends[mask] = n
    return text[:n], ends


@njit(cache=True)
def _write(text, n, value):  # type: ignore[no-untyped-def]
    more = True
    while more:
        group = value & 0x1F
        value >>= 5
        more = value != -1 if group & 0x10 else value != 0
        text[n] = (group | 0x20 if more else group) + 48
        n += 1
    return n


@njit(cache=True)
def _unpack(text, ends):  # type: ignore[no-untyped-def]
    """Run lengths of all masks, where each mask begins, and the first mask that is not COCO's text, or -1."""
    counts = np.empty(len(text), dtype=np.int64)
    offsets = np.zeros(len(ends) + 1, dtype=np.int64)
    n, p = np.int64(0), np.int64(0)
    for mask in range(len(ends)):
        first = n
        while p < ends[mask]:
            value, shift, more = np.int64(0), 0, True
            while more and p < ends[mask]:
                group = np.int64(text[p]) - 48
                if group < 0 or group > 63:
                    return counts[:n], offsets, mask
                if shift < 64:  # no length has more bits
                    value |= (group & 0x1F) << shift
                more = (group & 0x20) != 0
                shift += 5
                p += 1
                if not more and group & 0x10 and shift < 64:
                    value |= np.int64(-1) << shift
            counts[n] = value + (counts[n - 2] if n > first + 2 else 0)
            n += 1
        offsets[mask + 1] = n
    return counts[:n], offsets, -1


@njit(cache=True)
def _areas(counts, offsets):  # type: ignore[no-untyped-def]
    areas = np.zeros(len(offsets) - 1, dtype=np.int64)
    for mask in range(len(areas)):
        for i in range(offsets[mask] + 1, offsets[mask + 1], 2):
            areas[mask] += counts[i]
    return areas


@njit(cache=True)
def _spans(counts, offsets, pixels):  # type: ignore[no-untyped-def]
    """Spans (R, 2) and their offsets (N + 1,), and the first mask whose runs do not fill the image, or -1."""
    spans = np.empty((len(counts) // 2, 2), dtype=np.int64)
    begins = np.zeros(len(offsets), dtype=np.int64)
    n = np.int64(0)
    for mask in range(len(offsets) - 1):
        position = np.int64(0)
        for i in range(offsets[mask], offsets[mask + 1]):
            length = counts[i]
            if length < 0 or length > pixels - position:
                return spans[:n], begins, mask
            if (i - offsets[mask]) % 2 and length > 0:
                if n > begins[mask] and spans[n - 1, 1] == position:
                    spans[n - 1, 1] = position + length
                else:
                    spans[n, 0], spans[n, 1] = position, position + length
                    n += 1
            position += length
        if position != pixels:
            return spans[:n], begins, mask
        begins[mask + 1] = n
    return spans[:n], begins, -1
