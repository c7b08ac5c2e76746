"""COCO's three spellings of a mask (polygons, compressed and uncompressed RLE) as one: the compressed RLE."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from tis_ray.errors import InputError
from tis_ray.ops import rle as rle_ops
from tis_ray.ops.rle import Rle


def problem_of(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation of an image of this size, or None. Nothing at all means a box alone."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, Mapping):
        return _rle_problem(segmentation, height, width)
    if not isinstance(segmentation, list):
        return f"expected polygons or an RLE; got {type(segmentation).__name__}"
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            found = f"{len(polygon)} numbers" if isinstance(polygon, list) else type(polygon).__name__
            return f"expected polygons of at least 6 numbers x, y, x, y, ...; got {found}"
        if not _all_finite(polygon):
            return "expected polygons of finite numbers; got others"
        if (outside := _outside(polygon, height, width)) is not None:
            return outside
    return None


def to_rle(segmentation: Any, bbox: Sequence[float], height: int, width: int) -> Rle:
    """The compressed RLE of a checked segmentation; without one, the mask fills `bbox` (xywh)."""
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if isinstance(counts, list):
            return rle_ops.from_counts(counts, height, width)
        return {"size": [height, width], "counts": counts}
    packed = coco_mask.merge(coco_mask.frPyObjects(segmentation or [box_polygon(bbox)], height, width))
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def box_polygon(bbox: Sequence[float]) -> list[float]:
    """The polygon of a box xywh, in the corner order of COCO's own loader."""
    x, y, w, h = bbox
    return [x, y, x, y + h, x + w, y + h, x + w, y]


def _rle_problem(rle: Mapping[str, Any], height: int, width: int) -> str | None:
    if "size" not in rle or "counts" not in rle:
        return f"expected an RLE with size and counts; got keys {', '.join(map(str, rle))}"
    if rle["size"] != [height, width]:
        return f"expected an RLE of size [{height}, {width}], its image's; got {rle['size']}"
    counts = rle["counts"]
    try:
        runs = _whole(counts) if isinstance(counts, list) else rle_ops.counts_of(rle)  # type: ignore[arg-type]
    except (AttributeError, InputError, OverflowError, TypeError, UnicodeEncodeError, ValueError):
        return "expected RLE counts: a list of run lengths or COCO's string; got something else"
    if runs.ndim != 1 or (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        return f"expected RLE counts that add up to {height} x {width} pixels; got a sum of {int(runs.sum())}"
    return None


def _whole(counts: list[Any]) -> NDArray[np.int64]:
    if not all(type(length) is int for length in counts):
        raise TypeError  # NumPy would cut fractions off and read texts
    return np.asarray(counts, dtype=np.int64)


def _outside(polygon: list[float], height: int, width: int) -> str | None:
    """A polygon that misses its image, or lies so far beyond it that rasterising would take memory without end."""
    x1, x2, y1, y2 = min(polygon[::2]), max(polygon[::2]), min(polygon[1::2]), max(polygon[1::2])
    near = x1 >= -width and x2 <= 2 * width and y1 >= -height and y2 <= 2 * height
    if near and x2 > 0 and x1 < width and y2 > 0 and y1 < height:
        return None
    return f"expected polygons in an image of {width}x{height}; got x {x1} to {x2}, y {y1} to {y2}"


def _all_finite(numbers: list[Any]) -> bool:
    try:
        return math.isfinite(sum(numbers))  # one NaN or infinity spoils the sum; quick, for files of a million masks
    except (OverflowError, TypeError):
        return False
