"""The members' calibrations at work: which one for whose scores, and for which of their classes."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tis_ray import menu
from tis_ray.config import Choice
from tis_ray.config.fusion import FusionMember
from tis_ray.errors import ConfigError
from tis_ray.fusion.calibrations import Calibrate
from tis_ray.fusion.class_names import label_of
from tis_ray.instances import Instances

MENU = "tis_ray.fusion.calibrations"


class Calibrations:
    """What the entries of `fusion.members` say about scores, looked up and their options checked.

    `class_names` are the classes in the order of their labels; calibrations of single classes need them. Raises
    `ConfigError`, with the choices, for a calibration, option or class that does not exist.
    """

    def __init__(self, members: Mapping[str, FusionMember], class_names: Sequence[str] | None = None) -> None:
        self._of_member: dict[str, Calibrate] = {}
        self._of_class: dict[str, dict[int, Calibrate]] = {}
        for name, member in members.items():
            key = f"fusion.members.{name}"
            if member.calibration is not None:
                self._of_member[name] = calibration(member.calibration, key=f"{key}.calibration")
            self._of_class[name] = {
                _label(class_name, class_names, f"{key}.class_calibration"): calibration(
                    choice, key=f"{key}.class_calibration.{class_name}"
                )
                for class_name, choice in member.class_calibration.items()
            }

    def apply(self, instances: Instances, member: str) -> Instances:
        """The instances of one view of `member`, each score by its class's calibration, else by the member's own."""
        own, of_class = self._of_member.get(member), self._of_class.get(member)
        if own is None and not of_class:
            return instances
        scores: NDArray[np.float32] = instances.scores.copy() if own is None else own(instances.scores)
        for label in np.unique(instances.labels).tolist() if of_class else ():
            if of_class and label in of_class:
                of_label = instances.labels == label
                scores[of_label] = of_class[label](instances.scores[of_label])
        return instances.with_scores(scores)


def calibration(choice: Choice, *, key: str) -> Calibrate:
    """The calibration that a section at `key` names, its options bound. Raises `ConfigError` naming the key."""
    found = menu.pick(MENU, "calibrate", choice.name, key=key)
    return partial(found, **menu.check_options(found, choice.options, key=f"{key}.{choice.name}"))


def _label(name: str, class_names: Sequence[str] | None, key: str) -> int:
    if class_names is None:
        raise ConfigError(f"{key}: expected the ensemble's class table, to know which classes are meant; got none")
    return label_of(name, class_names, key=key)
