"""Tuning: searches on parts of the images, each judged on those that it did not see, and one ensemble of it all.

The images are dealt into folds. For each fold a search of its own looks at the other folds alone and chooses a setting;
its calibrations, too, are fitted there. The fold is then scored as it was and by the setting chosen without it:
what that gains, on average over the folds, flatters nothing that was searched or fitted. Folds are scored one by one,
since settings differ in how high their scores are, and a ranking of all images would mix them. Of the chosen settings
the one that scores best on all images is written.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.evaluation.coco import CocoReport, evaluate
from tis_ray.evaluation.overlaps import overlaps
from tis_ray.evaluation.paired import Difference, paired
from tis_ray.tuning.calibrating import Fits
from tis_ray.tuning.scoring import Bench, Metric
from tis_ray.tuning.search import Searches, Tried, best, fixed
from tis_ray.tuning.space import AS_IT_IS, Space


@dataclass(frozen=True, slots=True)
class Fold:
    """Images that were held out, and the search that did without them.

    tried:      what was tried, in order
    before:     scores of the ensemble as it was on these images
    after:      those of the setting that was best on the others
    difference: of the metric between the two, with its interval; None where none was asked for
    """

    tried: tuple[Tried, ...]
    before: CocoReport
    after: CocoReport
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it.

    ensemble: the ensemble to write; as it was where tuning gained nothing on held-out images
    setting:  of `ensemble`, by the names of the space
    folds:    how the searches went, and what they chose on the images that they did not see
    baseline: the scores of the ensemble as it was on all images
    on_all:   those of `ensemble` on all images, among which it was chosen
    worth:    how much of the metric `ensemble` loses on all images where a part is put back as it was
    importances: see `Searches.importances`, the mean of the searches
    stopped:  whether the searches ended before they had their trials
    """

    ensemble: Ensemble
    setting: Mapping[str, Any]
    metric: Metric
    folds: tuple[Fold, ...]
    baseline: CocoReport
    on_all: CocoReport
    worth: Mapping[str, float]
    importances: Mapping[str, float]
    stopped: bool

    @property
    def before(self) -> float:
        """The metric of the ensemble as it was on held-out images, the mean of the folds."""
        return float(np.mean([self.metric(fold.before) for fold in self.folds]))

    @property
    def after(self) -> float:
        """The same of what the searches chose."""
        return float(np.mean([self.metric(fold.after) for fold in self.folds]))

    @property
    def gain(self) -> float:
        """How much more of the metric there is on held-out images."""
        return self.after - self.before

    @property
    def gain_interval(self) -> tuple[float, float] | None:
        """Its 95% interval; None where any fold has none.

        Folds share no image, so that the squares of their distances to the ends of their intervals add up (Zou and
        Donner 2008).
        """
        low = high = 0.0
        for fold in self.folds:
            if fold.difference is None or fold.difference.interval is None:
                return None
            low += (fold.difference.value - fold.difference.interval[0]) ** 2
            high += (fold.difference.interval[1] - fold.difference.value) ** 2
        return self.gain - math.sqrt(low) / len(self.folds), self.gain + math.sqrt(high) / len(self.folds)


def tune(
    bench: Bench,
    space: Space,
    searches: Searches,
    *,
    metric: Metric,
    trials: int = 100,
    folds: int = 2,
    seed: int = 0,
    bootstrap: int = 0,
    on_trial: Callable[[Tried], None] = lambda tried: None,  # noqa: ARG005
) -> Tuned:
    """Search for a better fusion section than the ensemble of `space` has.

    trials:    of each fold's search
    folds:     at least 2, and no more than there are images
    bootstrap: resamples of the images for the interval of the difference; 0 for none
    on_trial:  called after each new trial

    The same arguments give the same answer, also where `searches` were stopped and go on. A `KeyboardInterrupt` ends
    the searches, and what they have found so far is taken. Raises `ConfigError` where the metric is not defined.
    """
    if not 2 <= folds <= len(bench.images):
        raise ConfigError(f"--folds: expected 2 to {len(bench.images)}, the number of images; got {folds}")
    dealt = _dealt(len(bench.images), folds, seed)
    parts = [[bench.among(np.flatnonzero(of).tolist()) for of in (dealt != k, dealt == k)] for k in range(folds)]
    _check_defined(space.ensemble, [unseen for _, unseen in parts], metric)
    stopped = False
    found: list[Fold] = []
    settings: list[Mapping[str, Any]] = [space.start()]
    for k, (seen, unseen) in enumerate(parts):
        fits, name = Fits(seen, space.ensemble), _name(k, folds)
        score = partial(_score, space=space, fits=fits, bench=seen, metric=metric)
        try:
            if not stopped:
                searches.search(name, score, start=space.start(), trials=trials, seed=(seed, k), on_trial=on_trial)
        except KeyboardInterrupt:
            stopped = True
        tried = tuple(searches.tried(name)[:trials])
        settings.append(best(tried).setting if tried else space.start())
        found.append(_judged(unseen, space.ensemble, _with(space, fixed(settings[-1]), fits), tried, metric, bootstrap))
    fits = Fits(bench, space.ensemble)
    score = partial(_score, space=space, fits=fits, bench=bench, metric=metric)
    gained = sum(metric(fold.after) - metric(fold.before) for fold in found) > 0
    setting = _best_of(settings, score) if gained else space.start()
    ensemble = _with(space, fixed(setting), fits)
    on_all = bench.report(ensemble, kinds=bench.kinds)
    changed = [part for part in space.parts if setting[part] != AS_IT_IS]
    return Tuned(
        ensemble=ensemble,
        setting=setting,
        metric=metric,
        folds=tuple(found),
        baseline=bench.report(space.ensemble, kinds=bench.kinds),
        on_all=on_all,
        worth={part: metric(on_all) - score(fixed({**setting, part: AS_IT_IS})) for part in changed},
        importances=_importances(searches, space.parts, folds),
        stopped=stopped,
    )


def _check_defined(ensemble: Ensemble, folds: Sequence[Bench], metric: Metric) -> None:
    if any(bench.score(ensemble, metric) < 0 for bench in folds):
        raise ConfigError(
            f"--metric: expected a score that the objects of each fold have; {metric.name} has no value in one of them"
        )


def _judged(
    bench: Bench, before: Ensemble, after: Ensemble, tried: tuple[Tried, ...], metric: Metric, bootstrap: int
) -> Fold:
    """Two ensembles on images that were held out."""
    results = [bench.results(ensemble, masks="segm" in bench.kinds) for ensemble in (before, after)]
    reports = [evaluate(bench.truth, one, kinds=bench.kinds) for one in results]
    difference = None
    if bootstrap:
        first, second = (overlaps(bench.truth, one, kind=metric.kind) for one in results)
        found = paired(first, second, bench.truth.categories, num_samples=bootstrap)
        difference = found.scores.get(metric.score)
    return Fold(tried, reports[0], reports[1], difference)


def _score(trial: Any, space: Space, fits: Fits, bench: Bench, metric: Metric) -> float:
    return bench.score(_with(space, trial, fits), metric)


def _best_of(settings: Sequence[Mapping[str, Any]], score: Callable[[Any], float]) -> Mapping[str, Any]:
    """The first of those with the highest score."""
    return settings[int(np.argmax([score(fixed(setting)) for setting in settings]))]


def _importances(searches: Searches, parts: Sequence[str], folds: int) -> dict[str, float]:
    """The mean of the searches that have some."""
    found = [searches.importances(_name(fold, folds), parts) for fold in range(folds)]
    found = [one for one in found if one]
    return {part: float(np.mean([one[part] for one in found])) for part in parts} if found else {}


def _name(fold: int, folds: int) -> str:
    return f"without fold {fold + 1} of {folds}"


def _dealt(count: int, folds: int, seed: int) -> Any:
    """The fold of each image, int (count,): as many of each as can be."""
    return np.random.default_rng(seed).permutation(np.arange(count) % folds)


def _with(space: Space, trial: Any, fits: Fits) -> Ensemble:
    return space.ensemble.model_copy(update={"fusion": space.section(trial, fits)})
