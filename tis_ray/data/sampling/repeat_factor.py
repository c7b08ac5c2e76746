"""Images of rare classes several times in each epoch (Gupta et al. 2019).

A class that a share f of the images holds has the factor max(1, sqrt(threshold / f)), an image the largest one of its
classes, 1 where it holds none.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.data.sampling import ImageSampler
from tis_ray.data.sampling._holding import classes_held
from tis_ray.formats.dataset import GroundTruth


def build(truth: GroundTruth, *, threshold: Annotated[float, Field(gt=0, le=1)] = 0.001) -> ImageSampler:
    """Every image as often as its factor says: of a factor of 2.3 the 2 for sure, a third time in 3 of 10 epochs.

    An epoch has as many draws as the factors of all images sum up to, rounded.

    threshold: the share of images below which a class is shown more often
    """
    factors = repeat_factors(*classes_held(truth), num_images=len(truth), threshold=threshold)
    whole = np.floor(factors).astype(np.int64)
    parts = np.flatnonzero(factors > whole)
    shares = (factors - whole)[parts]

    def draw(chance: np.random.Generator) -> NDArray[np.int64]:
        times = whole.copy()
        shuffled = chance.permutation(len(parts))
        times[parts[shuffled]] += _rounded(shares[shuffled], chance)
        return np.repeat(np.arange(len(times)), times)

    return draw


def repeat_factors(
    images: NDArray[np.int64], classes: NDArray[np.int64], *, num_images: int, threshold: float
) -> NDArray[np.float64]:
    """The factor (num_images,) of each image, where `images` (P,) hold `classes` (P,), each pair once."""
    factors = np.ones(num_images)
    if len(classes):
        share = np.bincount(classes) / num_images
        np.maximum.at(factors, images, np.sqrt(threshold / share[classes]))
    return factors


def _rounded(shares: NDArray[np.float64], chance: np.random.Generator) -> NDArray[np.int64]:
    """0 or 1 for each of the `shares` (n,), 1 as often as the share says, and always the same number of ones.

    Systematic sampling: shares are laid end to end, and marks one apart, the first at a random place, hit some of
    them. All are stretched a little for a whole number of marks; one that exceeds 1 for it may be hit twice.
    """
    total = shares.sum()
    if not (count := round(total)):
        return np.zeros(len(shares), np.int64)
    ends = np.cumsum(shares) * (count / total)
    ends[-1] = count
    return np.diff(np.floor(ends + chance.random()).astype(np.int64), prepend=0)
