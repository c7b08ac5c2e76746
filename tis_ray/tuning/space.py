"""What is searched: for each part of the fusion section, to leave it as it is or one of several ways to change it.

A setting is the plain values that `Space.section` asked for, by name; the same values make the same section.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tis_ray.config import Choice, Ensemble, FusionSection
from tis_ray.config.fusion import AutoRanges, FusionMember, RareBoost
from tis_ray.errors import ConfigError
from tis_ray.instances import Categories

AS_IT_IS = "as it is"
PARTS = ("ranges", "boost", "rules", "masks", "weights", "calibration")

_LOWS_PX = (0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0)
_HIGHS_PX = (*_LOWS_PX[2:], 384.0, float("inf"))
_COUNT_SHARES = (0.1, 0.25, 0.5)  # of the classes, that a boost may be for, those of the fewest training objects first

Fits = Callable[[str], Mapping[str, Choice]]  # a calibration's name to that of each member that it could be fitted for


class Trial(Protocol):
    """Who is asked for the values of a setting: an Optuna trial, or one that has them."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Space:
    """The fusion sections that may come of an ensemble's.

    sized:  whether the training sizes of all members are known, for automatic ranges
    masked: whether masks count in the metric
    parts:  some of `PARTS`, the parts of the section that are searched
    """

    ensemble: Ensemble
    categories: Categories
    sized: bool
    masked: bool
    parts: tuple[str, ...]

    @staticmethod
    def of(
        ensemble: Ensemble, categories: Categories, *, sized: bool, masked: bool, parts: Sequence[str] = PARTS
    ) -> "Space":
        """The parts that can differ at all. Raises `ConfigError` for unknown ones, and where none can."""
        for part in parts:
            if part not in PARTS:
                raise ConfigError(f"--search: expected some of {', '.join(PARTS)}; got '{part}'")
        every = Space(ensemble, categories, sized, masked, PARTS)
        left = tuple(part for part in PARTS if part in parts and len(every.ways(part)) > 1)
        if not left:
            raise ConfigError(f"--search: expected a part that can be changed; of {', '.join(parts)} none can")
        return Space(ensemble, categories, sized, masked, left)

    def ways(self, part: str) -> list[str]:
        """The ways in which a part may be changed, the first to leave it as it is."""
        fusion = self.ensemble.fusion
        members = list(fusion.members.values())
        if part == "ranges":
            found = ["none"] * bool(fusion.ranges or fusion.auto_ranges) + ["auto"] * self.sized
            found += ["by scale"] * (len(self.scales) > 1)
        elif part == "boost":
            found = ["none"] * (fusion.rare_boost is not None) + ["searched"] * (self._boost(0.1, 0.1) is not None)
        elif part == "rules":
            found = ["nms", "nms, vote", "soft_nms", "soft_nms, vote", "nmw", "wbf"]
        elif part == "masks":
            found = ["best", "average", "vote", "scale_ratio"] * self.masked
        elif part == "weights":
            found = ["searched"] * (len(self.ensemble.members) > 1)
        else:
            some = any(member.calibration or member.class_calibration for member in members)
            found = ["none"] * some + ["temperature", "platt", "isotonic"]
        return [AS_IT_IS, *found]

    @property
    def scales(self) -> list[int]:
        """The scales at which members look at the whole image, ascending."""
        return sorted({scale for member in self.ensemble.members.values() for scale in member.scales})

    def start(self) -> dict[str, str]:
        """The setting that leaves everything as it is."""
        return dict.fromkeys(self.parts, AS_IT_IS)

    def section(self, trial: Trial, fits: Fits) -> FusionSection:
        """The section of the setting that a trial gives. Members are given what `fits` finds for a calibration."""
        change: dict[str, Callable[[Trial, str], Mapping[str, Any]]] = {
            "ranges": self._ranges,
            "boost": self._boosts,
            "rules": _rules,
            "masks": _masks,
        }
        fusion = self.ensemble.fusion
        members: dict[str, FusionMember] = {}
        update: dict[str, Any] = {}
        for part in self.parts:
            way = trial.suggest_categorical(part, self.ways(part))
            if way == AS_IT_IS:
                continue
            if part in change:
                update |= change[part](trial, way)
            else:
                members = members or {name: self._member(name) for name in self.ensemble.members}
                members = _weighted(trial, members) if part == "weights" else _calibrated(members, way, fits)
        if members:
            update["members"] = members
        return fusion.model_copy(update=update)

    def _member(self, name: str) -> FusionMember:
        return self.ensemble.fusion.members.get(name, FusionMember())

    def _ranges(self, trial: Trial, way: str) -> Mapping[str, Any]:
        if way == "none":
            return {"ranges": {}, "auto_ranges": None}
        if way == "auto":
            low = trial.suggest_float("ranges.low", 0.0, 0.3, step=0.01)
            high = trial.suggest_float("ranges.high", 0.7, 1.0, step=0.01)
            return {"ranges": {}, "auto_ranges": AutoRanges(low=round(low, 2), high=round(high, 2))}
        written = self.ensemble.fusion.ranges.items()
        ranges = {key: interval for key, interval in written if "." in key.partition("@")[2]}  # of crops, which stay
        scales, finer_high_px = self.scales, float("inf")
        for scale in reversed(scales):
            low_px, high_px = 0.0, float("inf")
            if scale != scales[-1]:
                low_px = _LOWS_PX[trial.suggest_int(f"ranges.@{scale}.low", 0, len(_LOWS_PX) - 1)]
            if scale != scales[0]:
                high_px = _HIGHS_PX[trial.suggest_int(f"ranges.@{scale}.high", 0, len(_HIGHS_PX) - 1)]
            low_px = min(low_px, finer_high_px)  # nothing goes unheard between this scale and the next finer one
            finer_high_px = next(px for px in _HIGHS_PX if px >= high_px and px > low_px)
            ranges[f"@{scale}"] = (low_px, finer_high_px)
        return {"ranges": ranges, "auto_ranges": None}

    def _boosts(self, trial: Trial, way: str) -> Mapping[str, Any]:
        if way == "none":
            return {"rare_boost": None}
        share = _COUNT_SHARES[0]
        if self._by_count():
            share = _COUNT_SHARES[trial.suggest_int("boost.classes", 0, len(_COUNT_SHARES) - 1)]
        delta = trial.suggest_float("boost.delta", 0.02, 0.5, step=0.02)
        return {"rare_boost": self._boost(round(delta, 2), share)}

    def _by_count(self) -> bool:
        return self.ensemble.fusion.rare_boost is None and "r" not in self.categories.frequency

    def _boost(self, delta: float, share: float) -> RareBoost | None:
        """For the classes that are boosted already, else the rare ones, else those of few objects; None for neither."""
        own = self.ensemble.fusion.rare_boost
        if own is not None:
            return own.model_copy(update={"delta": delta})
        if "r" in self.categories.frequency:
            return RareBoost(delta=delta, frequency=("r",))
        if not self.categories.counts:
            return None
        return RareBoost(delta=delta, max_count=int(np.quantile(self.categories.counts, share, method="lower")))


def _rules(trial: Trial, way: str) -> Mapping[str, Any]:
    first, *others = way.split(", ")
    options: dict[str, Any] = {}
    if first == "soft_nms":
        options["method"] = trial.suggest_categorical("rules.soft_nms.method", ["linear", "gaussian"])
    if options.get("method") == "gaussian":
        options["sigma"] = _step(trial, "rules.soft_nms.sigma", 0.1, 1.0)
    else:
        options["iou_threshold"] = _step(trial, f"rules.{first}.iou_threshold", 0.3, 0.8)
    if first == "wbf":
        confidences = ["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
        options["confidence"] = trial.suggest_categorical("rules.wbf.confidence", confidences)
    rules = [Choice(name=first, options=options)]
    if others:
        voting: dict[str, Any] = {"iou_threshold": _step(trial, "rules.vote.iou_threshold", 0.5, 0.95)}
        voting["scores"] = trial.suggest_categorical("rules.vote.scores", ["id", "avg"])
        rules.append(Choice(name="vote", options=voting))
    return {"rules": tuple(rules)}


def _masks(trial: Trial, way: str) -> Mapping[str, Any]:
    options: dict[str, Any] = {"iou_threshold": _step(trial, "masks.iou_threshold", 0.4, 0.9)}
    if way in ("average", "scale_ratio"):
        options["weights"] = trial.suggest_categorical("masks.weights", ["equal", "score"])
    if way == "average":
        options["of"] = trial.suggest_categorical("masks.of", ["probability", "logit"])
    if way == "scale_ratio":
        options["k"] = trial.suggest_int("masks.k", 1, 4)
    return {"masks": Choice(name=way, options=options)}


def _weighted(trial: Trial, members: Mapping[str, FusionMember]) -> dict[str, FusionMember]:
    weights = {name: round(trial.suggest_float(f"weights.{name}", 0.1, 1.0, log=True), 3) for name in members}
    return {name: member.model_copy(update={"weight": weights[name]}) for name, member in members.items()}


def _calibrated(members: Mapping[str, FusionMember], way: str, fits: Fits) -> dict[str, FusionMember]:
    found = {} if way == "none" else fits(way)
    return {
        name: member.model_copy(update={"calibration": found.get(name), "class_calibration": {}})
        for name, member in members.items()
    }


def _step(trial: Trial, name: str, low: float, high: float) -> float:
    return round(trial.suggest_float(name, low, high, step=0.05), 2)
