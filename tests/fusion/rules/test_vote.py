"""Box voting: a known answer, who has a vote, and a brute force."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.box_rows import instances_of, iou_of
from tis_ray.config import FusionSection
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import nms, soft_nms, vote
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks

ABCD = Instances.of(  # IoU with the first: 1, .923077, .960784, .538462
    [[0, 0, 100, 100], [4, 0, 104, 100], [0, 2, 100, 102], [30, 0, 130, 100]], [0.9, 0.8, 0.6, 0.7], [0] * 4
)
ROWS = st.lists(
    st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.integers(0, 2)), max_size=24
)


def merge(rule, instances, found, **options):
    return rule.merge(instances, Pool.of(found), **options)


def slow_vote(instances, pool, threshold, rule):
    """(source, box, score) by descending score."""
    rows = []
    for box, score, label, source in zip(
        instances.boxes.tolist(), instances.scores.tolist(), instances.labels, instances.source, strict=True
    ):
        voters = [
            (other, weight)
            for other, weight, other_label in zip(pool.boxes.tolist(), pool.scores.tolist(), pool.labels, strict=True)
            if other_label == label and iou_of(box, other) >= threshold
        ]
        total = sum(weight for _, weight in voters)
        if total > 0:
            box = [sum(weight * other[i] for other, weight in voters) / total for i in range(4)]
            score = total / len(voters) if rule == "avg" else score
        rows.append((source, box, score))
    return sorted(rows, key=lambda row: -np.float32(row[2]))


def test_class_agnostic_lets_every_class_vote():
    mixed = replace(ABCD, labels=np.array([0, 1, 2, 0], dtype=np.int32))
    alone = merge(vote, mixed[[0]], mixed)
    np.testing.assert_array_equal(alone.boxes, mixed.boxes[[0]])
    moved = merge(vote, mixed[[0]], mixed, class_agnostic=True)
    np.testing.assert_allclose(moved.boxes, [[1.391304, 0.521739, 101.391304, 100.521739]], atol=1e-5)
    assert moved.labels.tolist() == [0]


@pytest.mark.parametrize(("scores", "expected"), [("id", 0.9), ("avg", 0.766667)])
def test_known_answer_after_nms(scores, expected):
    voted = merge(vote, merge(nms, ABCD, ABCD), ABCD, scores=scores)
    np.testing.assert_allclose(voted.boxes, [[1.391304, 0.521739, 101.391304, 100.521739]], atol=1e-5)
    assert voted.scores.tolist() == pytest.approx([expected], abs=1e-6)


def test_an_iou_of_the_threshold_itself_votes():
    pool = Instances.of([[0, 0, 10, 10], [0, 0, 10, 9], [1, 0, 10, 10]], [0.5, 0.5, 0.5], [0] * 3)
    assert merge(vote, pool[[0]], pool, iou_threshold=0.9).boxes[0].tolist() == pytest.approx([1 / 3, 0, 10, 29 / 3])


def test_classes_do_not_vote_for_each_other():
    pool = Instances.of([[0, 0, 10, 10], [0, 0, 10, 9.5]], [0.5, 0.9], [0, 1])
    np.testing.assert_array_equal(merge(vote, pool[[0]], pool).boxes, pool.boxes[[0]])


def test_votes_count_by_the_scores_before_any_rule():
    pool = Instances.of([[0, 0, 10, 10], [0, 0, 10, 9]], [0.9, 0.8], [0, 0])
    decayed = merge(soft_nms, pool, pool)
    assert decayed.scores.tolist() == pytest.approx([0.9, 0.08])
    mean = (10 * 0.9 + 9 * 0.8) / 1.7
    assert merge(vote, decayed, pool).boxes[:, 3].tolist() == pytest.approx([mean, mean])
    assert merge(vote, decayed, pool).scores.tolist() == pytest.approx([0.9, 0.08])
    assert merge(vote, decayed, pool, scores="avg").scores.tolist() == pytest.approx([0.85, 0.85])


def test_boxes_whose_voters_score_nothing_or_are_missing_stay_as_they_are():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9.5]]
    silent = Instances.of(boxes, [0.0, 0.0], [0, 0])
    np.testing.assert_array_equal(merge(vote, silent, silent, scores="avg").boxes, silent.boxes)
    elsewhere = Instances.of([[50, 50, 60, 60]], [0.9], [0])
    kept = merge(vote, Instances.of(boxes, [0.9, 0.3], [0, 0]), elsewhere, scores="avg")
    assert kept.boxes.tolist() == boxes
    assert kept.scores.tolist() == pytest.approx([0.9, 0.3])


def test_is_sorted_again_by_mean_scores():
    pool = Instances.of([[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.1, 0.6], [0, 0, 0], source=[0, 1, 2])
    voted = merge(vote, pool[[0, 2]], pool, scores="avg")
    assert voted.source.tolist() == [2, 0]
    assert voted.scores.tolist() == pytest.approx([0.6, 0.5])


def test_masks_keep_their_frames_where_boxes_move():
    masks = BoxMasks(ABCD.boxes, np.eye(3, dtype=np.float16)[None].repeat(4, 0))
    pool = Instances.of(ABCD.boxes, ABCD.scores, ABCD.labels, masks)
    voted = merge(vote, pool[[0]], pool)
    assert voted.boxes[0, 0] > 1
    np.testing.assert_array_equal(voted.masks.boxes, pool.boxes[[0]])
    np.testing.assert_array_equal(voted.masks.probabilities, masks.probabilities[[0]])


def test_nothing_to_vote_on_is_nothing():
    assert len(merge(vote, Instances.empty(), Instances.empty())) == 0
    assert len(merge(vote, Instances.empty(), ABCD)) == 0


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([0.01, 0.3, 0.5, 0.75, 0.9, 1.0]), st.sampled_from(["id", "avg"]))
def test_equals_brute_force_with_ties_duplicates_and_flat_boxes(rows, threshold, rule):
    pool = instances_of(rows)
    instances = merge(nms, pool, pool, iou_threshold=0.5)
    voted = merge(vote, instances, pool, iou_threshold=threshold, scores=rule)
    expected = slow_vote(instances, pool, threshold, rule)
    assert voted.source.tolist() == [source for source, _, _ in expected]
    np.testing.assert_allclose(voted.boxes, np.reshape([box for _, box, _ in expected], (-1, 4)), atol=1e-5)
    np.testing.assert_allclose(voted.scores, [score for _, _, score in expected], rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_equals_brute_force_on_many_boxes_of_uneven_sizes(threshold):
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(0, 5, (400, 2)))
    corners = rng.uniform(0, 200, (400, 2)) - sides / 2
    objects = np.c_[corners, corners + sides]
    boxes = np.concatenate([objects + rng.normal(0, 0.04, (400, 4)) * sides[:, [0, 1, 0, 1]] for _ in range(3)])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    pool = Instances.of(boxes, rng.uniform(0, 1, 1200), np.tile(rng.integers(0, 3, 400), 3), source=np.arange(1200))
    instances = pool[:400:4]
    voted = merge(vote, instances, pool, iou_threshold=threshold)
    expected = slow_vote(instances, pool, threshold, "id")
    assert voted.source.tolist() == [source for source, _, _ in expected]
    np.testing.assert_allclose(voted.boxes, [box for _, box, _ in expected], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold):
    section = FusionSection.model_validate({"rules": [{"vote": {"iou_threshold": threshold}}]})
    with pytest.raises(ConfigError, match=r"^fusion\.rules\.0\.vote\.iou_threshold: "):
        Fuser(section)
