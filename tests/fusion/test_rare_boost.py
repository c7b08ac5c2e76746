"""The rare-class boost: which classes, by how much, and what a class table has to have."""

import numpy as np
import pytest

from tis_ray.config import FusionSection, dump, parse
from tis_ray.config.fusion import RareBoost
from tis_ray.errors import ConfigError, InputError
from tis_ray.fusion.fuse import Fuser, fuse
from tis_ray.fusion.rare_boost import boost_factors
from tis_ray.instances import Categories, Instances
from tis_ray.views import View

LVIS = Categories((1, 2, 3), ("aerosol", "bench", "cornet"), frequency=("c", "f", "r"))
COUNTED = Categories((1, 2, 3), ("aerosol", "bench", "cornet"), frequency=("c", "f", "r"), counts=(11, 5000, 10))
PLAIN = Categories((1, 2, 3), ("car", "person", "tricycle"), counts=(5000, 11, 10))
WAD = Categories((33, 36, 40), ("car", "person", "tricycle"))
VIEW = View("a", 800)


def section(**keys):
    return FusionSection.model_validate({"rules": [], **keys})


def fused_scores(scores, labels, boost, categories):
    boxes = [[9 * i, 0, 9 * i + 8, 8] for i in range(len(scores))]
    fused = fuse(
        {VIEW: Instances.of(boxes, scores, labels)}, section(rare_boost=boost), image_hw=(99, 99), categories=categories
    )
    return dict(zip(fused.boxes[:, 0].astype(int) // 9, fused.scores.tolist(), strict=True))


@pytest.mark.parametrize(
    ("boost", "categories", "expected"),
    [
        pytest.param({"delta": 0.1, "frequency": ["r"]}, LVIS, [0.5, 0.5, 0.55, 1.0], id="rare"),
        pytest.param({"delta": 0.1}, LVIS, [0.5, 0.5, 0.55, 1.0], id="rare unless said otherwise"),
        pytest.param({}, LVIS, [0.5, 0.5, 0.55, 1.0], id="a tenth unless said otherwise"),
        pytest.param({"delta": 0.2, "frequency": ["r", "c"]}, LVIS, [0.6, 0.5, 0.6, 1.0], id="rare and common"),
        pytest.param({"delta": 0.1, "classes": ["tricycle"]}, WAD, [0.5, 0.5, 0.55, 1.0], id="by name"),
        pytest.param({"frequency": ["r"], "classes": ["bench"]}, LVIS, [0.5, 0.55, 0.55, 1.0], id="either way"),
        pytest.param({"max_count": 10}, PLAIN, [0.5, 0.5, 0.55, 1.0], id="by training instances"),
        pytest.param({"max_count": 10}, COUNTED, [0.5, 0.5, 0.55, 1.0], id="by them alone where frequencies are known"),
        pytest.param({"max_count": 11}, PLAIN, [0.5, 0.55, 0.55, 1.0], id="as many is still rare"),
        pytest.param({"max_count": 0}, PLAIN, [0.5, 0.5, 0.5, 0.95], id="never trained on, of which there is none"),
        pytest.param(
            {"max_count": 10, "frequency": ["c"], "classes": ["bench"]}, COUNTED, [0.55, 0.55, 0.55, 1.0], id="any way"
        ),
        pytest.param({"delta": 0}, LVIS, [0.5, 0.5, 0.5, 0.95], id="by nothing"),
    ],
)
def test_raises_the_scores_of_the_chosen_classes_to_1_at_most(boost, categories, expected):
    found = fused_scores([0.5, 0.5, 0.5, 0.95], [0, 1, 2, 2], boost, categories)
    assert [found[i] for i in range(4)] == pytest.approx(expected, abs=1e-6)


def test_comes_before_the_rules_and_the_choice_of_the_best():
    views = {VIEW: Instances.of([[0, 0, 10, 10], [0, 0, 10, 9]], [0.5, 0.48], [0, 2])}
    keys = {"rules": [{"nms": {"class_agnostic": True}}]}
    assert fuse(views, section(**keys), image_hw=(20, 20)).labels.tolist() == [0]
    boosted = section(rare_boost={"classes": ["cornet"]}, **keys)
    assert fuse(views, boosted, image_hw=(20, 20), categories=LVIS).labels.tolist() == [2]


def test_inputs_are_left_untouched():
    found = Instances.of([[0, 0, 10, 10]], [0.5], [2])
    found.scores.flags.writeable = False
    fuse({VIEW: found}, section(rare_boost={}), image_hw=(20, 20), categories=LVIS)
    assert found.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("boost", "categories", "message"),
    [
        pytest.param({}, None, r"^fusion\.rare_boost: expected the ensemble's class table.*; got none$", id="no table"),
        pytest.param(
            {},
            WAD,
            r"^fusion\.rare_boost\.frequency: expected classes marked r, c or f.* 3 classes has no frequency.*classes$",
            id="no frequency",
        ),
        pytest.param(
            {"max_count": 10},
            LVIS,
            r"^fusion\.rare_boost\.max_count: expected .* instance_count; the table of 3 classes has none.*\.classes$",
            id="no counts",
        ),
        pytest.param(
            {"classes": ["car", "tricicle"]},
            WAD,
            r"^fusion\.rare_boost\.classes: .* car, person, tricycle; got 'tricicle'; did you mean 'tricycle'\?$",
            id="misspelt class",
        ),
        pytest.param({"classes": ["zebra"]}, WAD, r"some of car, person, tricycle; got 'zebra'$", id="another class"),
        pytest.param(
            {"classes": ["zebra"]},
            Categories(tuple(range(30)), tuple(f"kind {i}" for i in range(30))),
            r"expected some of the ensemble's 30 classes; got 'zebra'$",
            id="among many classes",
        ),
    ],
)
def test_a_table_that_cannot_serve_is_refused_when_the_fuser_is_built(boost, categories, message):
    with pytest.raises(ConfigError, match=message):
        Fuser(section(rare_boost=boost), categories)


@pytest.mark.parametrize(
    ("boost", "message"),
    [
        ({"delta": -0.1}, r"rare_boost\.delta: .*greater than or equal to 0; got -0\.1"),
        ({"delta": float("inf")}, r"rare_boost\.delta: .*finite"),
        ({"frequency": ["rare"]}, r"rare_boost\.frequency\.0: .*'r', 'c' or 'f'; got 'rare'"),
        ({"frequency": []}, r"rare_boost: expected max_count, or at least one entry under frequency or classes"),
        ({"class": ["car"]}, r"rare_boost\.class: unknown key; did you mean 'classes'"),
    ],
)
def test_a_wrong_boost_is_refused_as_it_is_read(boost, message):
    with pytest.raises(ConfigError, match=message):
        parse(FusionSection, {"rare_boost": boost}, source="fusion.yaml")


@pytest.mark.parametrize(
    "boost", [{}, {"classes": ["car"]}, {"delta": 0.3, "frequency": ["r", "c"]}, {"max_count": 10}, {"max_count": 0}]
)
def test_a_boost_is_the_same_after_writing_and_reading(boost):
    once = section(rare_boost=boost)
    assert parse(FusionSection, dump(once), source="written") == once


def test_of_1203_classes_those_with_few_instances_are_raised():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 40, 1203)
    frequency = np.where(counts <= 10, "r", "f")
    table = Categories(
        tuple(range(1, 1204)), tuple(map(str, range(1203))), (), tuple(frequency.tolist()), tuple(counts.tolist())
    )
    by_count = boost_factors(RareBoost(max_count=10), table)
    np.testing.assert_array_equal(by_count, boost_factors(RareBoost(frequency=("r",)), table))
    np.testing.assert_array_equal(by_count == 1.1, counts <= 10)


def test_with_a_class_table_labels_beyond_it_are_refused():
    found = Instances.of([[0, 0, 10, 10]], [0.5], [3])
    with pytest.raises(InputError, match=r"view a@800: labels: expected 0\.\.2; got 3"):
        Fuser(section(), LVIS).fuse({VIEW: found}, image_hw=(20, 20))


def test_no_instances_stay_none():
    fused = fuse({VIEW: Instances.empty()}, section(rare_boost={}), image_hw=(9, 9), categories=LVIS)
    assert fused.scores.dtype == np.float32
    assert len(fused) == 0
