"""Boxes that a member is given to segment: their classes in its own labels, their masks put together by rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tis_ray.masks import BoxMasks

BOXES_AT_ONCE = 1000  # of a view, whose masks are predicted together: their features take memory


def own_labels(labels: NDArray[np.integer], index_map: NDArray[np.int32] | None) -> NDArray[np.int64]:
    """The detector's labels, from 1, for the ensemble's (N,), which `index_map` (K,) makes of the detector's from 0;
    0 for a class that it does not know. Without a map both are the same."""
    if index_map is None:
        return np.maximum(labels.astype(np.int64) + 1, 0)
    own = np.zeros(index_map.max(initial=0) + 1, dtype=np.int64)
    taken = index_map >= 0
    own[index_map[taken]] = np.flatnonzero(taken) + 1
    known = (labels >= 0) & (labels < len(own))
    return np.where(known, own[np.where(known, labels, 0)], 0)


def some_at_a_time(rows: Sequence[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    """The same rows of each piece of a batch, at most `BOXES_AT_ONCE` of each."""
    for start in range(0, max(map(len, rows)), BOXES_AT_ONCE):
        yield [row[start : start + BOXES_AT_ONCE] for row in rows]


def filled(masks: BoxMasks, rows: NDArray[np.int64], part: BoxMasks) -> BoxMasks:
    """The masks with `part` at the rows (R,) that had none yet."""
    if len(rows) == 0:
        return masks
    places = np.zeros(len(masks), dtype=np.int64)
    places[rows] = np.arange(len(rows))
    absent = ~np.isin(np.arange(len(masks)), rows)
    return replace(part[places], boxes=masks.boxes).replaced(absent, masks)
