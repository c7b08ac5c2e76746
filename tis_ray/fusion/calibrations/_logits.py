"""What the calibrations on logits share: scores to logits and back, and how badly logits fit what happened."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

CLAMP = 1e-6  # scores of exactly 0 and 1, as float32 has them, would be infinite logits
Logits = NDArray[np.float64]  # (N,)


def to_logits(scores: NDArray[np.float32]) -> Logits:
    """Logits of scores, of those beyond [1e-6, 1 - 1e-6] the logits of these ends."""
    return np.asarray(logit(np.clip(scores.astype(np.float64), CLAMP, 1 - CLAMP)))


def to_scores(logits: Logits) -> NDArray[np.float32]:
    """The scores, float32 in 0..1, of any logits."""
    return np.asarray(expit(logits), dtype=np.float32)


def surprise(logits: Logits, targets: NDArray[np.float64]) -> float:
    """Mean negative log likelihood in nats of `targets`, 0..1, under `logits`."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def rounded(number: float) -> float:
    """To 6 significant digits, which a person can read and a score in float32 does not notice."""
    return float(f"{number:.6g}")
