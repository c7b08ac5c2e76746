"""The search for good settings by Optuna, whose trials are kept in a file: a stopped search goes on as if it never was.

The sampler of each trial is seeded by the number of trials before it, so that what it proposes depends on these and the
seed alone, and not on when the process began.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tis_ray.errors import ConfigError

_RANDOM_TRIALS = 10  # before the sampler goes by what it has seen


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting and its score."""

    setting: Mapping[str, Any]
    score: float


class Searches:
    """Several searches in one file, which says what they are of.

    Raises `ConfigError` where Optuna is missing, where the file is there and `resume` is false, and where it is of
    something else than `about`, naming the first key in which the two differ.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], *, resume: bool) -> None:
        optuna = _optuna()
        self.path = path
        if path.exists() and not resume:
            raise ConfigError(f"--out: {path} holds the trials of a search; go on with --resume, or delete it")
        path.parent.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        self._storage = optuna.storages.JournalStorage(backend)
        noted = self._study("about")
        before = noted.user_attrs.get("about", about)
        for key in about:
            if before.get(key) != about[key]:
                raise ConfigError(
                    f"{key}: expected {before.get(key)}, with which the search in {path} began; got {about[key]} "
                    "(go on as it began, or delete it)"
                )
        noted.set_user_attr("about", dict(about))

    def tried(self, name: str) -> list[Tried]:
        """What was tried in one of the searches so far, in order."""
        return [Tried(trial.params, float(trial.value)) for trial in _whole(self._study(name))]

    def search(
        self,
        name: str,
        score: Callable[[Any], float],
        *,
        start: Mapping[str, Any],
        trials: int,
        seed: Sequence[int],
        on_trial: Callable[[Tried], None] = lambda tried: None,  # noqa: ARG005
    ) -> None:
        """Go on with one of the searches until it has so many trials.

        score:    of the setting that an Optuna trial gives, the more the better
        start:    the setting that is tried first
        on_trial: called after each new trial
        """
        optuna = _optuna()
        study = self._study(name)
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # of a process that was stopped
        while (done := len(_whole(study))) < trials:
            if done == 0 and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
                study.enqueue_trial(dict(start))
            study.sampler = optuna.samplers.TPESampler(
                seed=int(np.random.SeedSequence([*seed, done]).generate_state(1)[0]),
                n_startup_trials=_RANDOM_TRIALS,
                multivariate=False,
                constant_liar=False,
            )
            trial = study.ask()
            study.tell(trial, score(trial))
            on_trial(self.tried(name)[-1])

    def importances(self, name: str, parts: Sequence[str]) -> dict[str, float]:
        """How much of the difference between good and other trials each of `parts` explains (PED-ANOVA), sum 1.

        Empty where there are too few trials, or where all are alike.
        """
        optuna = _optuna()
        study = self._study(name)
        if len({tried.score for tried in self.tried(name)}) < 4:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental there
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(parts))
        return {part: float(found[part]) for part in parts}

    def _study(self, name: str) -> Any:
        return _optuna().create_study(storage=self._storage, study_name=name, direction="maximize", load_if_exists=True)


def fixed(setting: Mapping[str, Any]) -> Any:
    """A trial that gives the values of a setting."""
    return _optuna().trial.FixedTrial(dict(setting))


def best(tried: Sequence[Tried]) -> Tried:
    """The one with the highest score, the first of equals."""
    return max(tried, key=lambda one: one.score)


def check_installed() -> None:
    """Raise `ConfigError` where Optuna is missing."""
    _optuna()


def _whole(study: Any) -> list[Any]:
    return list(study.get_trials(deepcopy=False, states=(_optuna().trial.TrialState.COMPLETE,)))


def _optuna() -> ModuleType:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise ConfigError("tune: expected Optuna, which is not installed: pip install 'tis-ray[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
