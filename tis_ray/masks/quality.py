"""How well masks are said to fit: beside each, the IoU with its object that a head of its detector predicts.

A `Quality` is float32 (N,) in 0..1, 1 for a mask of which nothing is said, or None where of none anything is.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError

Quality = NDArray[np.float32] | None


def check_array(quality: Quality, count: int) -> None:
    """Raise `InputError` for another dtype or shape than float32 (`count`,)."""
    if quality is not None and (quality.dtype != np.float32 or quality.shape != (count,)):
        raise InputError(f"quality: expected float32 ({count},); got {quality.dtype} {quality.shape}")


def check_values(quality: Quality, present: NDArray[np.bool_]) -> None:
    """Raise `InputError` where that of a mask that is `present` (N,) is not in 0..1."""
    if quality is None:
        return
    strange = ~((quality >= 0) & (quality <= 1)) & present
    if strange.any():
        i = int(np.argmax(strange))
        raise InputError(f"masks.quality: expected 0..1; got {quality[i]} at position {i}")


def joined(qualities: Sequence[Quality], counts: Sequence[int]) -> Quality:
    """Those of several sets of masks, of so many masks each, in order."""
    if all(one is None for one in qualities):
        return None
    return np.concatenate(
        [np.ones(count, np.float32) if one is None else one for one, count in zip(qualities, counts, strict=True)]
    )


def means(quality: Quality, picks: NDArray[np.int64], shares: NDArray[np.float64]) -> Quality:
    """The weighted mean (N,) of those that were picked for each of N masks; 1 where no pick counts.

    picks, shares: (N, S) positions in `quality`, or -1 for none, and how much each counts, 0 or more
    """
    if quality is None:
        return None
    weights = np.where(picks >= 0, shares, 0.0)
    known = np.append(quality.astype(np.float64), 0)  # what -1 picks
    sums, totals = (np.where(weights > 0, known[picks], 0) * weights).sum(axis=1), weights.sum(axis=1)
    found = np.divide(sums, totals, out=np.ones(len(picks)), where=totals > 0)
    return np.asarray(np.minimum(found, 1), dtype=np.float32)


def replaced(quality: Quality, where: NDArray[np.bool_], others: Quality) -> Quality:
    """These, but `others`, as many, where `where` (N,) says so."""
    if quality is None and others is None:
        return None
    one = np.float32(1)
    return np.where(where, one if others is None else others, one if quality is None else quality)
