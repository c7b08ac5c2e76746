"""What every calibration of the menu promises: an order that stays, scores in 0..1, options that YAML holds."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tis_ray import menu
from tis_ray.config import Choice
from tis_ray.errors import ConfigError
from tis_ray.fusion.calibration import MENU, calibration

NAMES = menu.choices(MENU)
PLATT = st.fixed_dictionaries({"slope": st.floats(0, 20), "offset": st.floats(-20, 20)})
TEMPERATURE = st.fixed_dictionaries({"temperature": st.floats(0.05, 50)})


@st.composite
def knots(draw):
    xs = sorted(draw(st.sets(st.floats(0, 1, width=32), min_size=2, max_size=8)))
    ys = sorted(draw(st.lists(st.floats(0, 1, width=32), min_size=len(xs), max_size=len(xs))))
    return {"knots": [list(pair) for pair in zip(xs, ys, strict=True)]}


CHOICES = st.one_of(
    st.builds(lambda options: Choice(name="platt", options=options), PLATT),
    st.builds(lambda options: Choice(name="temperature", options=options), TEMPERATURE),
    st.builds(lambda options: Choice(name="isotonic", options=options), knots()),
)
SCORES = arrays(np.float32, st.integers(0, 30), elements=st.floats(0, 1, width=32))


@st.composite
def validation_sets(draw):
    """Scores with many ties, some at the ends, and both hits and misses among them."""
    size = draw(st.integers(2, 60))
    scores = draw(arrays(np.float32, size, elements=st.sampled_from([0.0, 1e-7, 0.01, 0.3, 0.5, 0.50001, 0.9, 1.0])))
    hits = draw(arrays(np.bool_, size))
    hits[0], hits[1] = True, False
    return scores, hits


def fitted(name, scores, hits):
    options = menu.pick(MENU, "fit", name, key="test")(scores, hits)
    return calibration(Choice(name=name, options=options), key="test"), options


@given(CHOICES, SCORES)
def test_order_stays_and_scores_are_scores(choice, scores):
    before = scores.copy()
    scores.flags.writeable = False
    calibrated = calibration(choice, key="test")(scores)
    assert calibrated.dtype == np.float32
    assert calibrated.shape == scores.shape
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated[np.argsort(scores)]) >= 0).all()
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_what_is_fitted_survives_yaml_and_is_accepted(name, data):
    calibrate, options = fitted(name, *data.draw(validation_sets()))
    assert yaml.safe_load(yaml.safe_dump(options)) == options
    assert calibrate(np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_what_is_fitted_keeps_different_scores_apart(name, data):
    calibrate, _ = fitted(name, *data.draw(validation_sets()))
    calibrated = calibrate(np.linspace(0.001, 0.999, 200, dtype=np.float32))
    told_apart = (calibrated[1:] > 1e-37) & (calibrated[:-1] < 1 - 1e-6)  # as far as float32 goes
    assert (np.diff(calibrated)[told_apart] > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_does_not_depend_on_the_order_of_detections(name):
    rng = np.random.default_rng(0)
    scores = rng.random(500, dtype=np.float32).round(2)
    hits = rng.random(500) < scores**2
    order = rng.permutation(500)
    _, options = fitted(name, scores, hits)
    _, shuffled = fitted(name, scores[order], hits[order])
    flat, other = (np.concatenate([np.ravel(value) for value in one.values()]) for one in (options, shuffled))
    np.testing.assert_allclose(flat, other, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_scores_that_say_how_often_they_hit_are_left_about_as_they_are(name):
    rng = np.random.default_rng(1)
    scores = rng.random(100_000, dtype=np.float32)
    calibrate, _ = fitted(name, scores, rng.random(len(scores)) < scores)
    grid = np.linspace(0.05, 0.95, 50, dtype=np.float32)
    np.testing.assert_allclose(calibrate(grid), grid, atol=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_leave_scores_as_they_are(name):
    scores = np.linspace(0.001, 0.999, 100, dtype=np.float32)
    np.testing.assert_allclose(calibration(Choice(name=name), key="test")(scores), scores, rtol=1e-6)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(name="plat"), r"^here: expected one of .*isotonic.*; got 'plat'; did you mean 'platt'"),
        (Choice(name="platt", options={"slope": -1}), r"^here\.platt\.slope: .*greater than or equal to 0; got -1$"),
        (Choice(name="platt", options={"slop": 1}), r"^here\.platt\.slop: unknown key; did you mean 'slope'"),
        (Choice(name="temperature", options={"temperature": 0}), r"^here\.temperature\.temperature: .*greater than 0"),
        (Choice(name="isotonic", options={"knots": [[0, 0]]}), r"^here\.isotonic\.knots: .*at least 2 items"),
        (
            Choice(name="isotonic", options={"knots": [[0, 0.5], [1, 0.4]]}),
            r"^here\.isotonic\.knots: expected scores that rise .*; got \[\[0, 0\.5\], \[1, 0\.4\]\]$",
        ),
        (Choice(name="isotonic", options={"knots": [[0, 0], [2, 1]]}), r"^here\.isotonic\.knots: .*numbers in 0\.\.1"),
    ],
)
def test_mistakes_name_the_key(choice, message):
    with pytest.raises(ConfigError, match=message):
        calibration(choice, key="here")
