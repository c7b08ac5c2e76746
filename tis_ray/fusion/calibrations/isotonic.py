"""Isotonic regression: whatever curve the data asks for, as long as it never falls."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from tis_ray.fusion.calibrations._logits import rounded

MAX_BLOCKS = 32


def _check_knots(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    xs, ys = zip(*knots, strict=True)
    if min(*xs, *ys) < 0 or max(*xs, *ys) > 1:
        raise ValueError("expected numbers in 0..1")
    if (np.diff(xs) <= 0).any() or (np.diff(ys) < 0).any():
        raise ValueError("expected scores that rise from knot to knot, and calibrated scores that never fall")
    return knots


Knots = Annotated[tuple[tuple[float, float], ...], Field(min_length=2), AfterValidator(_check_knots)]


def calibrate(scores: NDArray[np.float32], *, knots: Knots = ((0.0, 0.0), (1.0, 1.0))) -> NDArray[np.float32]:
    """The height at each score of the lines that join the `knots` (score, calibrated score), (N,).

    Beyond the first and last knot the curve is level, so that scores there tie; `fit` puts these at 0 and 1.
    """
    xs, ys = np.array(knots, dtype=np.float64).T
    after = np.searchsorted(xs, scores, side="right")
    low, high = ys[np.maximum(after - 1, 0)], ys[np.minimum(after, len(ys) - 1)]
    heights = np.interp(scores.astype(np.float64), xs, ys)
    return np.asarray(np.clip(heights, low, high), dtype=np.float32)  # interpolation may miss a knot by its last bit


def fit(scores: NDArray[np.float32], hits: NDArray[np.bool_]) -> dict[str, list[list[float]]]:
    """The knots of the best curve that never falls, in squares, for the `hits` bool (N,): at most 34.

    Regression gives blocks of scores with one share of hits each. A knot stands at the mean score of each block, so
    that scores within it keep their order; of more than 32 blocks, neighbours are joined. A block without a hit, or of
    hits alone, is taken for half a hit or half a miss, and the curve runs from (0, 0) to score 1, there on the ray from
    (0, 0) through the last block: so it rises everywhere.
    """
    from scipy.optimize import isotonic_regression  # a fusion replica, which never fits, starts without it

    values, inverse, counts = np.unique(scores.astype(np.float64), return_inverse=True, return_counts=True)
    shares = np.bincount(inverse, weights=hits) / counts  # equal scores are one point: they cannot be told apart
    blocks = isotonic_regression(shares, weights=counts).blocks
    starts = np.array([part[0] for part in np.array_split(blocks[:-1], min(MAX_BLOCKS, len(blocks) - 1))])
    sizes = np.add.reduceat(counts, starts)
    xs = np.add.reduceat(values * counts, starts) / sizes
    ys = _without_certainty(np.add.reduceat(shares * counts, starts) / sizes, sizes)
    knots = list(zip(xs.tolist(), ys.tolist(), strict=True))
    end = ys[-1] / max(xs[-1], ys[-1])
    return {"knots": _distinct([*([(0.0, 0.0)] if xs[0] > 0 else []), *knots, (1.0, float(end))])}


def _without_certainty(shares: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares (K,), rising, without a 0 in the first block and a 1 in the last: half a case more, still rising."""
    shares = shares.copy()
    if shares[0] == 0:
        shares[0] = min(0.5 / (sizes[0] + 1), shares[1] / 2)
    if shares[-1] == 1:
        shares[-1] = max(1 - 0.5 / (sizes[-1] + 1), (shares[-2] + 1) / 2)
    return shares


def _distinct(knots: Sequence[tuple[float, float]]) -> list[list[Any]]:
    """Rounded knots; of those that rounding puts at one score, the first."""
    found: list[list[Any]] = []
    for x, y in ((rounded(x), rounded(y)) for x, y in knots):
        if not found or x > found[-1][0]:
            found.append([x, y])
    return found
