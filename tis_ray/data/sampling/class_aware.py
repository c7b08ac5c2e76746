"""Every class equally often, however rare (Shen et al. 2016)."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tis_ray.data.sampling import ImageSampler
from tis_ray.data.sampling._holding import classes_held
from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth


def build(truth: GroundTruth, *, empty_share: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> ImageSampler:
    """Each draw takes the next class and the next image that holds it, both from shuffled lists: none comes again
    before all others have come.

    An epoch has as many draws as there are images, and begins with lists shuffled anew. Classes that no image holds
    are passed over. Raises `DataError` where no image holds any.

    empty_share: the share of draws that are images without objects, as far as there are any
    """
    images, classes = classes_held(truth)
    if not len(classes):
        raise DataError(f"{truth.path}: expected objects, as data.sampling.class_aware draws by class; got none")
    order = np.argsort(classes, kind="stable")
    starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
    holding = np.split(images[order], starts[1:])  # the images of each class
    empty = np.setdiff1d(np.arange(len(truth)), images)
    num_empty = round(empty_share * len(truth)) if len(empty) else 0

    def draw(chance: np.random.Generator) -> NDArray[np.int64]:
        turns = np.bincount(_walk(np.arange(len(holding)), len(truth) - num_empty, chance), minlength=len(holding))
        taken = [_walk(listed, count, chance) for listed, count in zip(holding, turns.tolist(), strict=True)]
        return np.concatenate([*taken, _walk(empty, num_empty, chance)])

    return draw


def _walk(listed: NDArray[np.int64], count: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """`count` draws from the shuffled list, shuffled anew whenever it is through."""
    if not count:
        return listed[:0]
    rounds = np.tile(listed, (-(-count // len(listed)), 1))
    return chance.permuted(rounds, axis=1).ravel()[:count]
