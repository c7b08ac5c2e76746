"""Menu of ways to choose the images of an epoch. Each module exports `build(truth, *, ...) -> ImageSampler`;
its name is the option's name.
"""

from collections.abc import Callable
from typing import Any

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
    build, options = _checked(choice)
    sampler: ImageSampler = build(truth, **options)
    return sampler


def check_sampling(choice: Choice) -> None:
    """Raise `ConfigError` for a name or options that the menu does not have, before any data is opened."""
    _checked(choice)


def _checked(choice: Choice) -> tuple[Callable[..., ImageSampler], dict[str, Any]]:
    build = pick(__name__, "build", choice.name, key="data.sampling")
    return build, check_options(build, choice.options, key=f"data.sampling.{choice.name}")
