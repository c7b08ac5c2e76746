"""Rare-class boost (LVIS 2020): classes seldom trained on score lower, and are raised a little before fusion."""

import numpy as np
from numpy.typing import NDArray

from tis_ray.config.fusion import RareBoost
from tis_ray.errors import ConfigError
from tis_ray.fusion.class_names import label_of
from tis_ray.instances import Categories, Instances

_KEY = "fusion.rare_boost"


def boost_factors(boost: RareBoost, categories: Categories | None) -> NDArray[np.float64]:
    """What scores of each class are multiplied by: 1 + delta or 1, (number of classes,).

    Raises `ConfigError` where the class table is missing or lacks what the boost goes by.
    """
    if categories is None:
        raise ConfigError(f"{_KEY}: expected the ensemble's class table, to know which classes are meant; got none")
    if boost.frequency and not categories.frequency:
        raise ConfigError(
            f"{_KEY}.frequency: expected classes marked r, c or f, as in LVIS; the table of {len(categories)} classes "
            f"has no frequency: name the rare ones in {_KEY}.classes"
        )
    if boost.max_count is not None and not categories.counts:
        raise ConfigError(
            f"{_KEY}.max_count: expected classes with the number of their training instances, instance_count; the "
            f"table of {len(categories)} classes has none: name the rare ones in {_KEY}.classes"
        )
    named = [label_of(name, categories.names, key=f"{_KEY}.classes") for name in boost.classes]
    chosen = np.isin(np.arange(len(categories)), named) | np.isin(categories.frequency or "", boost.frequency)
    if boost.max_count is not None:
        chosen |= np.array(categories.counts) <= boost.max_count
    return np.where(chosen, 1 + boost.delta, 1.0)


def boosted(instances: Instances, factors: NDArray[np.float64]) -> Instances:
    """The instances with their scores times the factor of their class, at most 1."""
    return instances.with_scores(np.minimum(instances.scores * factors[instances.labels], 1))
