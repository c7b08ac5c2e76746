"""What is fitted for which member and class, on which detections, and what is left out and why."""

import numpy as np
import pytest

from tests.calibration.scenes import random_image, truth_of
from tis_ray.calibration.fitting import fit_members
from tis_ray.errors import ConfigError
from tis_ray.fusion.calibrations import isotonic, platt, temperature
from tis_ray.instances import Categories, Instances

CATEGORIES = Categories((1, 2), ("car", "bus"))
METHODS = {"temperature": temperature, "platt": platt, "isotonic": isotonic}
BOX = [10, 10, 20, 20]


def images(*members, number=40):
    """Images in which members by name find objects at rates of their own, each in its own place."""
    for seed in range(number):
        rng_images = [random_image(100 * seed + i, hit_rate=rate) for i, (_, rate) in enumerate(members)]
        truths = [truth for truth, _ in rng_images]
        boxes = [truth.boxes + np.array([0, 50 * i] * 2) for i, truth in enumerate(truths)]
        yield (
            truth_of(np.concatenate(boxes), np.concatenate([truth.labels for truth in truths])),
            {
                name: Instances.of(found.boxes + np.array([0, 50 * i] * 2), found.scores, found.labels)
                for i, ((name, _), (_, found)) in enumerate(zip(members, rng_images, strict=True))
            },
        )


@pytest.mark.parametrize("method", METHODS)
def test_each_member_is_fitted_on_its_own_hits(method):
    fits = fit_members(images(("bold", lambda s: s**2), ("shy", np.sqrt)), CATEGORIES, method=method)
    assert list(fits) == ["bold", "shy"]
    for fit in fits.values():
        assert fit.calibration.name == method
        assert fit.calibration.options == METHODS[method].fit(fit.scores, fit.hits)
        assert len(fit.scores) == 1600
        assert not fit.class_calibration
        assert not fit.left_out
        assert fit.after.nll < fit.before.nll
        np.testing.assert_array_equal(fit.calibrated, METHODS[method].calibrate(fit.scores, **fit.calibration.options))


def test_members_become_comparable():
    fits = fit_members(images(("bold", lambda s: s**2), ("shy", np.sqrt)), CATEGORIES, method="isotonic")
    for fit in fits.values():
        assert fit.before.ece > 0.1
        assert fit.after.ece < 0.03


def test_crowds_are_neither_hits_nor_misses():
    found = Instances.of([BOX, [12, 12, 15, 15], [60, 60, 70, 70]], [0.5, 0.6, 0.7], [0, 0, 0])
    truth = truth_of([BOX, [0, 0, 30, 30]], [0, -1], [False, True])
    fit = fit_members([(truth, {"a": found})], CATEGORIES)["a"]
    assert fit.scores.tolist() == pytest.approx([0.5, 0.7])
    assert fit.hits.tolist() == [True, False]


def test_views_of_a_member_do_not_compete():
    found = Instances.of([BOX, BOX], [0.5, 0.6], [0, 0], source=[0, 1])
    assert fit_members([(truth_of([BOX], [0]), {"a": found})], CATEGORIES)["a"].hits.all()


def test_the_overlap_decides_what_a_hit_is():
    found = Instances.of([[10, 10, 20, 16]], [0.5], [0])
    by_iou = {iou: fit_members([(truth_of([BOX], [0]), {"a": found})], CATEGORIES, iou=iou) for iou in (0.6, 0.61)}
    assert [fits["a"].hits.tolist() for fits in by_iou.values()] == [[True], [False]]


def test_classes_by_themselves():
    def rate_of(scores):
        return np.where(np.arange(len(scores)) % 2, scores**3, np.cbrt(scores))

    by_class = []
    for seed in range(40):
        truth, found = random_image(seed, hit_rate=rate_of)
        labels = np.arange(len(found)) % 2
        truth = truth_of(truth.boxes, (truth.boxes[:, 0] / 20).astype(int) % 2)
        by_class.append((truth, {"a": Instances.of(found.boxes, found.scores, labels)}))
    fit = fit_members(by_class, CATEGORIES, per_class=True)["a"]
    own, of_class = fit.calibration.options, fit.class_calibration
    assert of_class["bus"].options["offset"] < own["offset"] < of_class["car"].options["offset"]
    assert fit.after.nll < fit_members(by_class, CATEGORIES)["a"].after.nll


@pytest.mark.parametrize(
    ("num_hits", "num_misses", "problem"),
    [
        (0, 0, "no detections"),
        (5, 4, "9 detections, fewer than 10"),
        (0, 10, "no hits"),
        (10, 0, "hits alone"),
        (5, 5, ""),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_too_little_to_go_by(method, num_hits, num_misses, problem):
    total = num_hits + num_misses
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(total)], dtype=float).reshape(-1, 4)
    found = Instances.of(boxes, np.linspace(0.1, 0.9, total), np.zeros(total))
    truth = truth_of(boxes[:num_hits], np.zeros(num_hits))
    fit = fit_members([(truth, {"a": found})], CATEGORIES, method=method, per_class=True)["a"]
    assert fit.problem == problem
    assert (fit.calibration is None) == bool(problem)
    assert fit.left_out == {"car": f"{num_hits} of the 50 hits that it takes", "bus": "0 of the 50 hits that it takes"}
    if problem:
        np.testing.assert_array_equal(fit.calibrated, fit.scores)


@pytest.mark.parametrize(
    ("num_hits", "num_misses", "why"),
    [(50, 50, None), (49, 51, "49 of the 50 hits that it takes"), (51, 49, "49 of the 50 misses that it takes")],
)
def test_a_class_takes_more_than_a_member(num_hits, num_misses, why):
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(num_hits + num_misses)], dtype=float)
    found = Instances.of(boxes, np.linspace(0.1, 0.9, len(boxes)), np.zeros(len(boxes)))
    truth = truth_of(boxes[:num_hits], np.zeros(num_hits))
    fit = fit_members([(truth, {"a": found})], CATEGORIES, per_class=True)["a"]
    assert fit.left_out.get("car") == why
    assert list(fit.class_calibration) == ([] if why else ["car"])


def test_no_images_no_members():
    assert fit_members([], CATEGORIES) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "plat"}, r"^--method: expected one of .*isotonic.*; got 'plat'; did you mean 'platt'"),
        ({"iou": 0}, r"^--iou: expected a number above 0 and at most 1; got 0$"),
        ({"iou": float("nan")}, r"^--iou: .*; got nan$"),
    ],
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        fit_members([], CATEGORIES, **options)
