"""Platt scaling (Platt 1999): a straight line through logits, which makes scores bolder or shyer and shifts them."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from tis_ray.fusion.calibrations._logits import rounded, surprise, to_logits, to_scores

MIN_SLOPE = 1 / 32  # `fit` finds no flat line, which would forget the order of the scores


def calibrate(
    scores: NDArray[np.float32], *, slope: Annotated[float, Field(ge=0)] = 1.0, offset: float = 0.0
) -> NDArray[np.float32]:
    """sigmoid(`slope` * logit(score) + `offset`), (N,)."""
    return to_scores(slope * to_logits(scores) + offset)


def fit(scores: NDArray[np.float32], hits: NDArray[np.bool_]) -> dict[str, float]:
    """The line under which the `hits` bool (N,) are likeliest, its slope at least 1/32.

    The likelihood is that of Platt's targets, (H + 1) / (H + 2) for each of H hits and 1 / (M + 2) for each of M
    misses: scores that part hits from misses without an error would ask for an infinite slope else.
    """
    from scipy.optimize import minimize  # a fusion replica, which never fits, starts without it

    logits = to_logits(scores)
    num_hits = np.count_nonzero(hits)
    targets = np.where(hits, (num_hits + 1) / (num_hits + 2), 1 / (len(hits) - num_hits + 2))

    def loss_and_gradient(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mapped = line[0] * logits + line[1]
        errors = expit(mapped) - targets
        return surprise(mapped, targets), np.array([np.mean(errors * logits), np.mean(errors)])

    found = minimize(
        loss_and_gradient,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(MIN_SLOPE, None), (None, None)],
        options={"ftol": 1e-12, "gtol": 1e-8},
    )
    return {"slope": rounded(found.x[0]), "offset": rounded(found.x[1])}
