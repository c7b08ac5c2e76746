"""Temperature (Guo et al. 2017): one number that makes all scores bolder or shyer, with 0.5 as the fixed point."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.fusion.calibrations._logits import rounded, surprise, to_logits, to_scores

LIMIT = 32.0  # of the temperature that `fit` looks for, and of its inverse


def calibrate(scores: NDArray[np.float32], *, temperature: Annotated[float, Field(gt=0)] = 1.0) -> NDArray[np.float32]:
    """sigmoid(logit(score) / `temperature`), (N,): above 1 takes confidence from the scores, below 1 adds to it."""
    return to_scores(to_logits(scores) / temperature)


def fit(scores: NDArray[np.float32], hits: NDArray[np.bool_]) -> dict[str, float]:
    """The temperature, from 1/32 to 32, under which the `hits` bool (N,) are likeliest."""
    from scipy.optimize import minimize_scalar  # a fusion replica, which never fits, starts without it

    logits, targets = to_logits(scores), hits.astype(np.float64)
    found = minimize_scalar(
        lambda log_t: surprise(logits / np.exp(log_t), targets),
        bounds=(-np.log(LIMIT), np.log(LIMIT)),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return {"temperature": rounded(float(np.exp(found.x)))}
