"""Menu of ways to choose the images of an epoch. Each module exports `build(truth, *, ...) -> ImageSampler`;
its name is the option's name.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tis_ray.config import Choice
from tis_ray.formats.dataset import GroundTruth
from tis_ray.menu import check_options, pick

# Draws one epoch: indices int64 (n,) into the data set's images, in any order, an image perhaps several times. `n` is
# the same for every epoch. All chance comes from the generator that is handed in.
ImageSampler = Callable[[np.random.Generator], NDArray[np.int64]]


def image_sampler(choice: Choice, truth: GroundTruth) -> ImageSampler:
    """The sampler that a recipe names under `data.sampling`, over the images of `truth`. `ConfigError` for another."""
    build = pick(__name__, "build", choice.name, key="data.sampling")
    sampler: ImageSampler = build(truth, **check_options(build, choice.options, key=f"data.sampling.{choice.name}"))
    return sampler
