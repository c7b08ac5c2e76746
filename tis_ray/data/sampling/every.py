"""Every image once in each epoch."""

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.sampling import ImageSampler
from tis_ray.formats.dataset import GroundTruth


def build(truth: GroundTruth) -> ImageSampler:
    """Every image of `truth`, those without any annotation included."""
    count = len(truth)

    def draw(chance: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG001  every sampler is handed one
        return np.arange(count)

    return draw
