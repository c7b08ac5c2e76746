"""How far scores can be taken at their word: the share of hits beside the scores, and two numbers that sum it up."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15
_CLAMP = 1e-6  # the likelihood of a miss with a score of exactly 1 would be 0


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Scores and hits of N detections in B bins of equal width.

    mean_scores, hit_rates: float64 (B,) NaN in empty bins
    counts:                 int64 (B,)
    ece:                    expected calibration error, the mean of |mean score - hit rate| over the detections
    nll:                    mean negative log likelihood of the hits and misses in nats, scores within [1e-6, 1 - 1e-6]
    """

    mean_scores: NDArray[np.float64]
    hit_rates: NDArray[np.float64]
    counts: NDArray[np.int64]
    ece: float
    nll: float


def reliability(scores: NDArray[np.float32], hits: NDArray[np.bool_], *, num_bins: int = NUM_BINS) -> Reliability:
    """The reliability of `scores` (N,) in 0..1, of which `hits` (N,) found something; both numbers NaN for N=0."""
    exact = scores.astype(np.float64)
    bins = np.minimum((exact * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_scores = np.bincount(bins, weights=exact, minlength=num_bins) / counts
        hit_rates = np.bincount(bins, weights=hits, minlength=num_bins) / counts
    if not len(scores):
        return Reliability(mean_scores, hit_rates, counts, float("nan"), float("nan"))
    gaps = np.nan_to_num(np.abs(mean_scores - hit_rates))
    inside = np.clip(exact, _CLAMP, 1 - _CLAMP)
    nll = -np.log(np.where(hits, inside, 1 - inside)).mean()
    return Reliability(mean_scores, hit_rates, counts, float(gaps @ counts / len(scores)), float(nll))
