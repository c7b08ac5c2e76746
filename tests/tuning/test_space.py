"""Every setting of the space is a section that an ensemble file may have, under which no size goes unheard."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.tuning.kept_runs import CATEGORIES, ensemble_of
from tis_ray.config import Choice, Ensemble, dump, parse
from tis_ray.errors import ConfigError
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories
from tis_ray.tuning.space import AS_IT_IS, PARTS, Space

MEMBERS = {"a": {"scales": [400, 600, 800]}, "b": {"scales": [400, 1200]}}
SIZES = {name: TrainingSizes((8.0, 32.0, 200.0)) for name in MEMBERS}


class RandomTrial:
    """Values by chance, which it keeps."""

    def __init__(self, seed: int, *, part: str = "") -> None:
        self._rng = np.random.default_rng(seed)
        self._part = part
        self.values: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        usual = name in PARTS and self._part not in ("", name)
        return self._kept(name, choices[0] if usual else choices[self._rng.integers(len(choices))])

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False):
        if step is not None:
            return self._kept(name, low + step * int(self._rng.integers(round((high - low) / step) + 1)))
        return self._kept(name, float(self._rng.uniform(low, high)))

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return self._kept(name, int(self._rng.integers(low, high + 1)))

    def _kept(self, name: str, value: Any) -> Any:
        assert name not in self.values, "asked for twice"
        self.values[name] = value
        return value


def fits(method: str) -> Mapping[str, Choice]:
    options = {
        "temperature": {"temperature": 1.5},
        "platt": {"slope": 1.0, "offset": 0.5},
        "isotonic": {"knots": [[0.1, 0.2], [0.9, 0.8]]},
    }
    return {"a": Choice(name=method, options=options[method])}


def space_of(fusion: object = "tis", *, categories: Categories = CATEGORIES, parts: Sequence[str] = PARTS) -> Space:
    return Space.of(ensemble_of(MEMBERS, fusion), categories, sized=True, masked=True, parts=parts)


@pytest.mark.parametrize("fusion", ["tis", {"ranges": "auto", "rare_boost": {"classes": ["car"]}}])
def test_every_setting_is_a_section_that_a_file_may_have(fusion: object) -> None:
    space, ways = space_of(fusion), set()
    for seed in range(60):
        trial = RandomTrial(seed)
        section = space.section(trial, fits)
        ensemble = space.ensemble.model_copy(update={"fusion": section})
        read = parse(Ensemble, dump(ensemble), source="test")
        assert dump(read.fusion) == dump(section)
        Fuser.of(ensemble, CATEGORIES, sizes=SIZES)
        ways |= {(part, trial.values[part]) for part in space.parts}
    assert ways == {(part, way) for part in space.parts for way in space.ways(part)}


def test_ranges_of_scales_leave_no_size_unheard() -> None:
    space, seen = space_of(parts=["ranges"]), 0
    for seed in range(200):
        ranges = space.section(RandomTrial(seed), fits).ranges
        reached = 0.0
        for low, high in sorted(ranges.values()):
            assert low <= reached
            reached = max(reached, high)
        assert not ranges or reached == float("inf")
        seen += bool(ranges)
    assert seen > 20


def test_ranges_of_crops_stay_where_those_of_scales_change() -> None:
    crops = {"strip": {"box": [0, 0, 50, 20], "scales": [400]}}
    ensemble = ensemble_of({"a.b": {"scales": [400, 800], "crops": crops}}, {"ranges": {"@400.strip": [0, 40]}})
    space = Space.of(ensemble, CATEGORIES, sized=False, masked=True, parts=["ranges"])
    keys = {frozenset(space.section(RandomTrial(seed), fits).ranges) for seed in range(20)}
    assert keys == {frozenset(), frozenset({"@400.strip"}), frozenset({"@400.strip", "@400", "@800"})}


def test_what_is_left_as_it_is_stays_to_the_letter() -> None:
    space = space_of({"rare_boost": {"classes": ["car"]}, "members": {"a": {"weight": 2, "role": "boxes"}}})
    trial = RandomTrial(0, part="none of them")
    assert space.section(trial, fits) == space.ensemble.fusion
    assert trial.values == space.start() == dict.fromkeys(PARTS, AS_IT_IS)


def test_roles_stay_where_weights_and_calibrations_change() -> None:
    space = space_of({"members": {"a": {"role": "boxes"}}}, parts=["weights", "calibration"])
    sections = [space.section(RandomTrial(seed), fits) for seed in range(30)]
    assert {section.role("a") for section in sections} == {"boxes"}
    assert {section.role("b") for section in sections} == {"both"}


@pytest.mark.parametrize(
    ("categories", "boosted"),
    [
        (Categories((1, 2, 3), ("x", "y", "z"), frequency=("f", "r", "c"), counts=(9, 1, 4)), {("r",)}),
        (Categories((1, 2, 3), ("x", "y", "z"), frequency=("f", "f", "c"), counts=(9, 1, 4)), {1, 4}),
        (Categories((1, 2), ("x", "y"), counts=(90, 12)), {12}),
    ],
)
def test_boosts_are_for_rare_classes(categories: Categories, boosted: set) -> None:
    space = space_of(categories=categories, parts=["boost"])
    boosts = [space.section(RandomTrial(seed), fits).rare_boost for seed in range(20)]
    assert {boost.max_count or boost.frequency for boost in boosts if boost} == boosted


def test_parts_that_cannot_differ_are_left_out() -> None:
    space = Space.of(ensemble_of({"a": {"scales": [400]}}, {}), Categories((1,), ("x",)), sized=False, masked=False)
    assert space.parts == ("rules", "calibration")
    assert "auto" not in space.ways("ranges")
    with pytest.raises(ConfigError, match="--search: expected a part that can be changed; of weights, masks none can"):
        Space.of(space.ensemble, CATEGORIES, sized=False, masked=False, parts=["weights", "masks"])


def test_thresholds_are_round_numbers() -> None:
    for seed in range(40):
        rules = space_of(parts=["rules"]).section(RandomTrial(seed), fits).rules
        for value in [value for rule in rules for value in rule.options.values() if isinstance(value, float)]:
            assert value == round(value, 2)
            assert round(value * 20) == pytest.approx(value * 20)
