"""Weighted boxes fusion: a known answer, a brute force, ensemble-boxes, and which views its score counts."""

from dataclasses import replace

import ensemble_boxes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tests.box_rows import iou_of
from tis_ray.config import FusionSection
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import wbf
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

KINDS = ["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
VIEWS = (View("a", 400), View("b", 400), View("c", 400))
TWO_MODELS = Instances.of(  # in thousandths of the image
    [[100, 100, 500, 500], [600, 600, 900, 900], [120, 100, 520, 500]], [0.9, 0.4, 0.6], [0] * 3, source=[0, 0, 1]
)
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])
ROWS = st.lists(st.tuples(*[st.integers(0, 6)] * 4, SCORES, st.integers(0, 2), st.integers(0, 2)), max_size=24)
SIDES = st.integers(3, 20)
DISTINCT_ROWS = st.lists(
    st.tuples(*[st.integers(0, 12)] * 2, SIDES, SIDES, st.integers(1, 99), st.integers(0, 1), st.integers(0, 2)),
    max_size=20,
    unique_by=lambda row: row[4],
)
WEIGHTS = st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 3, 0.5)])


def instances_of(rows, weights=(1, 1, 1)):
    """From (x, y, width, height, score, label, view) rows, scores multiplied by the view's share of the weights."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    source = table[:, 6].astype(int)
    scores = table[:, 4] * (np.array(weights) / max(weights))[source]
    return Instances.of(boxes, scores, table[:, 5], source=source)


def pool_of(instances, weights=(1, 1, 1), **fields):
    views = VIEWS[: len(weights)]
    return replace(Pool.of(instances, views=views), weights=np.array(weights) / max(weights), **fields)


def merge(instances, weights=(1, 1, 1), **options):
    return wbf.merge(instances, pool_of(instances, weights), **options)


def mean_of(members, boxes, scores):
    total = sum(scores[i] for i in members)
    if len(members) == 1 or total == 0:
        return boxes[members[0]]
    return [sum(scores[i] * boxes[i][side] for i in members) / total for side in range(4)]


def slow_clusters(instances, threshold):
    """Positions of the members of each cluster, the boxes, and all IoUs that were compared with the threshold."""
    boxes, scores = instances.boxes.tolist(), instances.scores.tolist()
    clusters, compared = [], []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [members for members in clusters if instances.labels[members[0]] == instances.labels[i]]
        ious = [iou_of(boxes[i], mean_of(members, boxes, scores)) for members in rivals]
        compared += [threshold, *sorted(ious)[-2:]]
        if ious and max(ious) > threshold:
            rivals[ious.index(max(ious))].append(i)
        else:
            clusters.append([i])
    return clusters, [mean_of(members, boxes, scores) for members in clusters], compared


def slow_score(members, instances, weights, kind):
    """The score of one cluster where every view could have seen it."""
    weights = [weight / max(weights) for weight in weights]
    scores, views = instances.scores[members].tolist(), instances.source[members].tolist()
    boxes_weight = sum(weights[view] for view in views)
    found = sum(weights[view] for view in set(views))
    score = {
        "avg": sum(scores) / len(scores) * min(len(weights), len(scores)) / sum(weights),
        "max": max(scores),
        "box_and_model_avg": sum(scores) / boxes_weight * found / sum(weights),
        "absent_model_aware_avg": sum(scores) / (boxes_weight + sum(weights) - found),
    }[kind]
    return min(score, max(scores))


def peers_answer(rows, threshold, weights, kind):
    """ensemble-boxes' label, box and score, which is capped at the best of its cluster."""
    views = [[row for row in rows if row[6] == view] for view in range(3)]
    boxes = [[[x / 32, y / 32, (x + w) / 32, (y + h) / 32] for x, y, w, h, *_ in view] for view in views]
    scores, labels = ([[row[column] for row in view] for view in views] for column in (4, 5))
    best, fused = (
        ensemble_boxes.weighted_boxes_fusion(
            boxes, scores, labels, weights=weights, iou_thr=threshold, conf_type=conf_type
        )
        for conf_type in ("max", kind)
    )
    caps = {(label, *box): score for box, score, label in zip(*best, strict=True)}
    rows = [(label, *box, min(score, caps[label, *box])) for box, score, label in zip(*fused, strict=True)]
    return np.array(rows).reshape(-1, 6)


def assert_same_rows(a, b):
    """Both have the same rows to 1e-5, in any order."""
    assert len(a) == len(b)
    distances = np.abs(a[:, None] - b[None]).max(axis=2, initial=0)
    assert distances[linear_sum_assignment(distances)].max(initial=0) < 1e-5


# ------------------------------------------------------------------------------------------- Known answers


@pytest.mark.parametrize(
    ("options", "weights", "first", "scores"),
    [
        pytest.param({}, (1, 1), [108, 100, 508, 500], [0.75, 0.2], id="avg"),
        pytest.param({"confidence": "max"}, (1, 1), [108, 100, 508, 500], [0.9, 0.4], id="max"),
        pytest.param(
            {"confidence": "box_and_model_avg"}, (1, 1), [108, 100, 508, 500], [0.75, 0.2], id="box and model"
        ),
        pytest.param({"confidence": "absent_model_aware_avg"}, (1, 1), [108, 100, 508, 500], [0.75, 0.2], id="absent"),
        pytest.param({}, (2, 1), [105, 100, 505, 500], [0.8, 0.266667], id="avg of weights 2 and 1"),
        pytest.param({"iou_threshold": 0.91}, (1, 1), [100, 100, 500, 500], [0.45, 0.3, 0.2], id="an IoU too low"),
    ],
)
def test_known_answers(options, weights, first, scores):
    weighted = TWO_MODELS.with_scores(TWO_MODELS.scores * np.float32([1, 1, weights[1] / weights[0]]))
    fused = merge(weighted, weights, **options)
    np.testing.assert_allclose(fused.scores, scores, atol=1e-6)
    np.testing.assert_allclose(fused.boxes[0], first, atol=1e-4)
    np.testing.assert_array_equal(fused.boxes[-1], TWO_MODELS.boxes[1])


def test_a_box_is_compared_with_the_mean_and_not_with_the_first_of_its_cluster():
    boxes = [[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]]  # IoU of the third: .43 with the first, .54 with the mean
    assert len(merge(Instances.of(boxes, [0.9, 0.85, 0.8], [0] * 3), iou_threshold=0.5)) == 1
    assert len(merge(Instances.of(boxes, [0.9, 0.01, 0.8], [0] * 3), iou_threshold=0.5)) == 2


# ------------------------------------------------------------------------------------- Brute force and peer


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([0.0, 0.25, 0.55, 0.75]), WEIGHTS, st.sampled_from(KINDS))
def test_equals_brute_force_with_ties_duplicates_flat_boxes_and_scores_of_zero(rows, threshold, weights, kind):
    instances = instances_of(rows, weights)
    fused = merge(instances, weights, iou_threshold=threshold, confidence=kind)
    clusters, boxes, _ = slow_clusters(instances, threshold)
    expected = [
        (
            instances.labels[members[0]],
            instances.source[members[0]],
            *box,
            slow_score(members, instances, weights, kind),
        )
        for members, box in zip(clusters, boxes, strict=True)
    ]
    assert_same_rows(np.c_[fused.labels, fused.source, fused.boxes, fused.scores], np.array(expected).reshape(-1, 7))
    assert (np.diff(fused.scores) <= 0).all()


@settings(deadline=None, max_examples=150)
@given(DISTINCT_ROWS, st.sampled_from([0.3, 0.55, 0.7]), WEIGHTS, st.sampled_from(KINDS))
def test_equals_ensemble_boxes(rows, threshold, weights, kind):
    rows = [(*row[:4], row[4] / 100, *row[5:]) for row in rows]
    instances = instances_of(rows, weights)
    assume(len(np.unique(instances.scores)) == len(rows))  # equal ones it takes in another order
    compared = np.sort(slow_clusters(instances, threshold)[2])
    assume(not ((np.diff(compared) > 0) & (np.diff(compared) < 1e-4)).any())  # it rounds its means to float32
    fused = merge(instances, weights, iou_threshold=threshold, confidence=kind)
    mine = np.c_[fused.labels, fused.boxes / 32, fused.scores]
    assert_same_rows(mine, peers_answer(rows, threshold, weights, kind))


@pytest.mark.parametrize("classes", [1, 7, 1203])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_ensemble_boxes_on_many_objects(classes, kind):
    rng = np.random.default_rng(0)
    corners, wh = rng.integers(0, 200, (60, 2)) / 8, rng.integers(10, 60, (60, 2)) / 8
    objects = rng.integers(0, 60, 300)
    jitter = 1 + rng.integers(-20, 20, (300, 4)) / 300
    scores, views = rng.permutation(300) / 301 + 0.001, rng.integers(0, 3, 300)
    where = np.c_[corners, wh][objects] * jitter
    rows = np.c_[where * 32 / 40, scores, (objects * 31) % classes, views].tolist()
    instances = instances_of(rows, (2, 1, 1))
    fused = merge(instances, (2, 1, 1), confidence=kind)
    assert 60 < len(fused) < 150
    mine = np.c_[fused.labels, fused.boxes / 32, fused.scores]
    assert_same_rows(mine, peers_answer(rows, 0.55, (2, 1, 1), kind))


def test_equal_scores_stay_in_the_order_they_came():
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(5)]
    fused = merge(Instances.of(boxes, [0.3, 0.6, 0.3, 0.6, 0.3], [2, 1, 0, 0, 1]))
    assert (fused.boxes[:, 0] / 20).tolist() == [1, 3, 0, 2, 4]


# --------------------------------------------------------------------------------------------- Whose score


@pytest.mark.parametrize("kind", KINDS)
def test_scores_never_rise_where_a_heavy_view_has_several_boxes_in_a_cluster(kind):
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]
    fused = merge(Instances.of(boxes, [0.9, 0.9, 0.2], [0] * 3, source=[0, 0, 1]), (2, 1), confidence=kind)
    assert fused.scores[0] <= np.float32(0.9)  # 1.2 in ensemble-boxes, by avg


def test_a_view_that_failed_does_not_count():
    both = wbf.merge(TWO_MODELS, pool_of(TWO_MODELS, heard=np.array([True, True, False])))
    np.testing.assert_allclose(both.scores, [0.75, 0.2], atol=1e-6)
    assert merge(TWO_MODELS).scores.tolist() == pytest.approx([0.5, 0.4 / 3])  # all three answered


def test_a_view_does_not_count_for_sizes_it_may_not_speak_for():
    intervals = np.array([[0, np.inf], [0, np.inf], [0, 350]])  # the first is of size 400, the second of 300
    fused = wbf.merge(TWO_MODELS, pool_of(TWO_MODELS, intervals=intervals))
    np.testing.assert_allclose(fused.scores, [0.75, 0.4 / 3], atol=1e-6)


def test_a_view_does_not_count_where_it_does_not_look():
    views = (*VIEWS[:2], View("c", 400, crop=(550, 550, 1000, 1000), crop_name="corner"))
    fused = wbf.merge(TWO_MODELS, Pool.of(TWO_MODELS, views=views))
    np.testing.assert_allclose(fused.scores, [0.75, 0.4 / 3], atol=1e-6)


@pytest.mark.parametrize("kind", ["avg", "box_and_model_avg", "absent_model_aware_avg"])
def test_a_view_that_found_the_object_counts_though_the_mean_is_beyond_its_range(kind):
    instances = Instances.of([[0, 0, 10, 10], [0, 0, 9, 9]], [0.9, 0.6], [0, 0], source=[0, 1])
    pool = pool_of(instances, (1, 1), intervals=np.array([[9.5, np.inf], [0, 9.2]]))  # the mean's size is 9.6
    assert wbf.merge(instances, pool, confidence=kind).scores.tolist() == pytest.approx([0.75])


@pytest.mark.parametrize("kind", KINDS)
def test_views_without_weight_have_no_score_and_break_nothing(kind):
    instances = Instances.of([[0, 0, 10, 10], [0, 0, 9, 9]], [0, 0], [0, 0], source=[0, 1])
    fused = wbf.merge(instances, replace(pool_of(instances, (1, 1)), weights=np.zeros(2)), confidence=kind)
    assert fused.scores.tolist() == [0]
    assert fused.boxes.tolist() == [[0, 0, 10, 10]]


def test_a_fusion_counts_the_views_that_answered():
    views = {view: TWO_MODELS[TWO_MODELS.source == i] for i, view in enumerate(VIEWS[:2])}
    fuser = Fuser(FusionSection.model_validate({"rules": [{"wbf": {}}], "score_threshold": 0}))
    fused = fuser.fuse(views, image_hw=(1000, 1000), sources=VIEWS)
    np.testing.assert_allclose(fused.scores, [0.75, 0.2], atol=1e-6)


# ------------------------------------------------------------------------------ Class, view and mask of a box


def test_class_agnostic_takes_the_class_and_view_of_the_best_box():
    instances = Instances.of([[0, 0, 10, 10], [0, 0, 10, 9]], [0.5, 0.8], [3, 1202], source=[0, 1])
    fused = merge(instances, (1, 1), class_agnostic=True)
    assert (fused.labels.tolist(), fused.source.tolist()) == ([1202], [1])
    assert len(merge(instances, (1, 1))) == 2


def test_of_equal_scores_the_first_speaks():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 10]], np.float32)
    masks = BoxMasks(boxes, np.float16([0.1, 0.2, 0.3])[:, None, None] * np.ones((1, 2, 2), np.float16))
    fused = merge(Instances.of(boxes, [0.4, 0.5, 0.5], [0] * 3, masks, source=[0, 2, 1]))
    assert fused.source.tolist() == [2]
    np.testing.assert_array_equal(fused.masks.boxes, boxes[[1]])
    np.testing.assert_array_equal(fused.masks.probabilities, masks.probabilities[[1]])


@pytest.mark.parametrize(
    ("present", "taken"),
    [([True] * 3, 1), ([True, False, True], 2), ([True, False, False], 0), ([False] * 3, None)],
    ids=["the best", "the next best", "the only one", "none"],
)
def test_the_mask_is_that_of_the_best_box_that_has_one(present, taken):
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 10]], np.float32)
    masks = BoxMasks(boxes, np.zeros((3, 2, 2), np.float16), np.array(present))
    fused = merge(Instances.of(boxes, [0.3, 0.9, 0.5], [0] * 3, masks, source=[0, 1, 2]))
    assert fused.source.tolist() == [1]
    assert fused.masks.present.tolist() == [taken is not None]
    if taken is not None:
        np.testing.assert_array_equal(fused.masks.boxes, boxes[[taken]])
