"""How many replicas view servers have for the time of a batch run: in an ensemble, and in a Serve config.

Of a config nothing is touched but `num_replicas`, and what stands against it where a deployment scales itself: neither
restarts a replica. `Change` knows what was there before, so that whatever else is changed meanwhile stays.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from tis_ray.config import Ensemble, Replica
from tis_ray.errors import ConfigError, ServiceError

NOTE = "replicas.json"  # in a run's folder, while a service has more of them for it
_FUSION = "Fusion"
_KEYS = ("num_replicas", "autoscaling_config")

Entry = dict[str, Any]  # what a Serve config says of one deployment


def read_replicas(asked: Sequence[str], ensemble: Ensemble) -> dict[str, int]:
    """Replicas by deployment of `N`, for all view servers, and `NAME=N`, for one of them or `Fusion`, the last counts.

    Raises `ConfigError` for a number below 1 and a name that the ensemble does not have.
    """
    wanted: dict[str, int] = {}
    for one in asked:
        match = re.fullmatch(r"(?:(?P<name>.+)=)?(?P<number>[1-9][0-9]*)", one.strip())
        if match is None:
            raise ConfigError(f"--replicas: expected N or NAME=N, as 4 or r50@800=4; got {one}")
        names = list(ensemble.deployments) if match["name"] is None else [_known(match["name"], ensemble)]
        wanted |= dict.fromkeys(names, int(match["number"]))
    return wanted


def with_replicas(ensemble: Ensemble, wanted: Mapping[str, int]) -> Ensemble:
    """The ensemble with at least so many replicas of these deployments; one that scales itself has as many, always."""
    replicas = dict(ensemble.replicas)
    for name, number in wanted.items():
        before = ensemble.replicas.get("fusion", Replica()) if name == _FUSION else ensemble.replica(name)
        more = {"num_replicas": max(number, before.num_replicas), "autoscaling": None}
        replicas["fusion" if name == _FUSION else name] = before.model_copy(update=more)
    return ensemble.model_copy(update={"replicas": replicas})


@dataclass(frozen=True, slots=True)
class Change:
    """What was changed of an application's config: entries of deployments as they were, None where there was none, and
    as they are meanwhile."""

    before: Mapping[str, Entry | None]
    after: Mapping[str, Entry]

    @classmethod
    def between(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> Self:
        """What differs in two configs of one application."""
        was, now = _entries(before), _entries(after)
        changed = [name for name, entry in now.items() if was.get(name) != entry]
        return cls({name: was.get(name) for name in changed}, {name: now[name] for name in changed})

    def undone(self, application: Mapping[str, Any]) -> dict[str, Any]:
        """The config with this taken back, as far as it still is as this made it."""
        entries = _entries(application)
        for name, mine in self.after.items():
            if name in entries and _own(entries[name]) == _own(mine):
                before = self.before[name]
                rest = {key: value for key, value in entries[name].items() if key not in _KEYS}
                entries[name] = rest | _own(before or {})
                if before is None and set(entries[name]) == {"name"}:
                    del entries[name]
        return dict(application) | {"deployments": list(entries.values())}


def raised(application: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """An application's config with so many replicas by deployment, whether it scales itself or not.

    Raises `ServiceError` where something outside Serve counts the replicas.
    """
    if application.get("external_scaler_enabled"):
        raise ServiceError(
            "--replicas: expected a service whose replicas nobody else counts; got one with external_scaler_enabled"
        )
    entries = _entries(application)
    for name, number in counts.items():
        entries[name] = _fixed(entries.get(name, {"name": name}), number)
    return dict(application) | {"deployments": list(entries.values())}


def _fixed(entry: Entry, number: int) -> Entry:
    scaling = entry.get("autoscaling_config")
    if isinstance(scaling, dict):
        # Its policy belongs to the application's code for Serve: without it, every replica would be replaced.
        bounds = dict.fromkeys(("min_replicas", "max_replicas", "initial_replicas"), number)
        return entry | {"autoscaling_config": scaling | bounds}
    return entry | {"num_replicas": number, "autoscaling_config": None}


def _entries(application: Mapping[str, Any]) -> dict[str, Entry]:
    return {entry["name"]: deepcopy(entry) for entry in application.get("deployments", [])}


def _own(entry: Entry) -> Entry:
    return {key: entry[key] for key in _KEYS if key in entry}


def _known(name: str, ensemble: Ensemble) -> str:
    names = [*ensemble.deployments, _FUSION]
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    raise ConfigError(
        f"--replicas: expected one of {', '.join(names)}; got {name}{f' (did you mean {near[0]}?)' if near else ''}"
    )
