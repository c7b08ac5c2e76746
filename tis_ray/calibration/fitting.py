"""Calibrations from what each member found in a validation set, wherever that comes from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray import menu
from tis_ray.config import Choice
from tis_ray.config.fusion import FusionMember
from tis_ray.errors import ConfigError
from tis_ray.evaluation.matching import match
from tis_ray.evaluation.reliability import Reliability, reliability
from tis_ray.fusion.calibration import MENU, Calibrations
from tis_ray.fusion.calibrations import Fit
from tis_ray.instances import Annotations, Categories, Instances

MIN_DETECTIONS = 10  # of a member
MIN_OF_CLASS = 50  # hits, and as many misses: fewer cost AP on other images, the same object being a hit of every view


@dataclass(frozen=True, slots=True, eq=False)
class MemberFit:
    """What was fitted for one member, and on what.

    calibration:       of all its classes; None where nothing could be fitted, and `problem` says why
    class_calibration: of classes by themselves, by name
    left_out:          what kept each of the other classes from one of its own, by name, where each was to have one
    scores, calibrated: float32 (N,) of all detections that are hits or misses, before and after
    hits:              bool (N,) which of them are hits
    """

    calibration: Choice | None
    class_calibration: Mapping[str, Choice]
    problem: str
    left_out: Mapping[str, str]
    scores: NDArray[np.float32]
    calibrated: NDArray[np.float32]
    hits: NDArray[np.bool_]

    @property
    def before(self) -> Reliability:
        """How far the scores could be taken at their word, by the detections that were fitted on."""
        return reliability(self.scores, self.hits)

    @property
    def after(self) -> Reliability:
        """The same of the calibrated scores."""
        return reliability(self.calibrated, self.hits)


def fit_members(
    found: Iterable[tuple[Annotations, Mapping[str, Instances]]],
    categories: Categories,
    *,
    method: str = "platt",
    per_class: bool = False,
    iou: float = 0.5,
) -> dict[str, MemberFit]:
    """Fit the calibration `method` for each member, in the order in which members first turn up.

    found:      for each image its ground truth and what each member found there, before any fusion. Both are labelled
                by `categories`. The views of a member are told apart by `source`, and each is matched by itself:
                otherwise all but one of the views that find an object would count as misses.
    per_class:  fit classes by themselves, too, where a member has enough of them
    iou:        of boxes, from which a detection is a hit, see `tis_ray.evaluation.matching`

    A fit of a member takes at least 10 detections, hits and misses among them, that of a class 50 of either kind.
    Raises `ConfigError` as `check_fit` does.
    """
    fit = check_fit(method, iou)
    detections: dict[str, list[Instances]] = {}
    hits: dict[str, list[NDArray[np.bool_]]] = {}
    for truth, by_member in found:
        for name, instances in by_member.items():
            matches = match(instances, truth, iou=iou)
            detections.setdefault(name, []).append(instances.without_masks()[matches.counted])
            hits.setdefault(name, []).append(matches.hits[matches.counted])
    names = categories.names if per_class else ()
    return {
        name: _fit_member(Instances.concatenate(detections[name]), np.concatenate(hits[name]), fit, method, names)
        for name in detections
    }


def check_fit(method: str, iou: float) -> Fit:
    """The `fit` of a `method`. Raises `ConfigError` for an unknown one, and for an `iou` that is not in (0, 1]."""
    if not 0 < iou <= 1:
        raise ConfigError(f"--iou: expected a number above 0 and at most 1; got {iou}")
    fit: Fit = menu.pick(MENU, "fit", method, key="--method")
    return fit


def check_some(fits: Mapping[str, MemberFit]) -> None:
    """Raise `ConfigError`, with each member's problem, where nothing was fitted for any of them."""
    if not any(fit.calibration for fit in fits.values()):
        problems = "; ".join(f"{name}: {fit.problem}" for name, fit in fits.items())
        raise ConfigError(f"--data: expected hits and misses of some member to fit on; got {problems}")


def _fit_member(
    detections: Instances, hits: NDArray[np.bool_], fit: Fit, method: str, class_names: Sequence[str]
) -> MemberFit:
    """Fit on N detections and which of them are `hits` (N,): all together, and each of the classes by itself."""
    problem = _problem(hits)
    own = None if problem else Choice(name=method, options=fit(detections.scores, hits))
    of_class, left_out = {}, {}
    for label, name in enumerate(class_names):
        of_label = detections.labels == label
        if why := _class_problem(hits[of_label]):
            left_out[name] = why
        else:
            of_class[name] = Choice(name=method, options=fit(detections.scores[of_label], hits[of_label]))
    section = {"": FusionMember(calibration=own, class_calibration=of_class)}
    calibrated = Calibrations(section, class_names).apply(detections, "").scores
    return MemberFit(own, of_class, problem, left_out, detections.scores, calibrated, hits)


def _problem(hits: NDArray[np.bool_]) -> str:
    """What keeps a member's detections, bool (N,), from being fitted on; empty where nothing does."""
    if len(hits) < MIN_DETECTIONS:
        return f"{len(hits)} detections, fewer than {MIN_DETECTIONS}" if len(hits) else "no detections"
    if not hits.any():
        return "no hits"
    return "hits alone" if hits.all() else ""


def _class_problem(hits: NDArray[np.bool_]) -> str:
    """The same of the detections of one class."""
    num_hits = int(hits.sum())
    for number, kind in ((num_hits, "hits"), (len(hits) - num_hits, "misses")):
        if number < MIN_OF_CLASS:
            return f"{number} of the {MIN_OF_CLASS} {kind} that it takes"
    return ""
