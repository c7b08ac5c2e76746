"""Positives of the largest overlap, no object taking more than its part while others wait; and what is a candidate."""

import pytest
import torch

from tests.roi_candidates import by_chance, negatives_of, positives_of, written
from tis_ray.models.roi_sampling import Candidates
from tis_ray.models.roi_sampling.high_iou import build


def by_hand(candidates: Candidates, *, by_score: int | None, by_iou: int) -> list[int]:
    """The shortlist, by plain sorting."""
    num_proposals = len(candidates.overlaps) - len(candidates.object_labels)
    if by_score is None:
        return list(range(len(candidates.overlaps)))
    overlaps = candidates.overlaps.tolist()
    closest = sorted(range(num_proposals), key=lambda place: -overlaps[place])[:by_iou]
    return sorted({*range(min(by_score, num_proposals)), *closest, *range(num_proposals, len(overlaps))})


def expected_positives(candidates: Candidates, listed: list[int], *, max_positives: int, iou: float) -> list[int]:
    """Object by object the capped ones, then the others, each by overlap."""
    overlaps, matched = candidates.overlaps.tolist(), candidates.matched.tolist()
    good = sorted((place for place in listed if overlaps[place] >= iou), key=lambda place: -overlaps[place])
    num_objects = len(candidates.object_labels)
    if num_objects == 0:
        return []
    cap = -(-max_positives // num_objects)
    taken, others, counts = [], [], [0] * num_objects
    for place in good:
        (taken if counts[matched[place]] < cap else others).append(place)
        counts[matched[place]] += 1
    return sorted([*taken, *others][:max_positives])


def test_no_object_takes_more_than_its_part_while_others_wait() -> None:
    # Three positives of two objects: two of each at first, of which there is room for three.
    candidates = written([0.95, 0.92, 0.9, 0.85, 0.75, 0.72], [0, 0, 0, 0, 1, 1], [1, 2])
    candidates = candidates._replace(overlaps=torch.cat([candidates.overlaps[:6], torch.zeros(2)]))  # no own boxes
    assert positives_of(candidates, build(), size=8, max_positives=3, positive_iou=0.7) == [0, 1, 4]


@pytest.mark.parametrize(
    ("max_positives", "expected"),
    [(4, [0, 1, 3, 4]), (5, [0, 1, 2, 3, 4]), (2, [3, 4]), (1, [3])],
    ids=["within the parts", "beyond where nobody waits", "one each", "fewer than objects"],
)
def test_what_others_leave_is_taken_by_overlap(max_positives: int, expected: list[int]) -> None:
    candidates = written([0.9, 0.8, 0.7], [0, 0, 0], [1, 2])  # 3 and 4 are the objects' own boxes
    assert positives_of(candidates, build(), size=5, max_positives=max_positives, positive_iou=0.7) == expected


@pytest.mark.parametrize(("by_score", "by_iou"), [(None, 1), (10, 10), (1, 40), (40, 1), (1000, 1000)])
def test_equals_plain_loops(by_score: int | None, by_iou: int) -> None:
    sampler = build(by_score=by_score, by_iou=by_iou)
    for seed in range(20):
        candidates = by_chance(60, num_objects=seed % 6, seed=seed)
        listed = by_hand(candidates, by_score=by_score, by_iou=by_iou)
        settings = {"size": 90, "max_positives": seed % 9, "positive_iou": 0.6}
        wanted = expected_positives(candidates, listed, max_positives=seed % 9, iou=0.6)
        assert positives_of(candidates, sampler, **settings) == wanted
        below = (candidates.overlaps < 0.6) & ~candidates.ignored
        assert negatives_of(candidates, sampler, **settings) == [place for place in listed if below[place]]


def test_candidates_are_the_best_by_score_and_by_overlap_and_own_boxes() -> None:
    candidates = written([0.1, 0.2, 0.3, 0.8, 0.75, 0.72], [0] * 6, [1])
    settings = {"size": 7, "max_positives": 7, "positive_iou": 0.7}
    assert positives_of(candidates, build(by_score=2, by_iou=2), **settings) == [3, 4, 6]
    assert negatives_of(candidates, build(by_score=2, by_iou=2), **settings) == [0, 1]
    assert positives_of(candidates, build(by_score=None, by_iou=2), **settings) == [3, 4, 5, 6]


def test_a_band_of_overlap_may_be_neither() -> None:
    candidates = written([0.1, 0.4, 0.5, 0.6, 0.69, 0.7], [0] * 6, [1])
    settings = {"size": 7, "max_positives": 7, "positive_iou": 0.7}
    assert negatives_of(candidates, build(), **settings) == [0, 1, 2, 3, 4]
    assert negatives_of(candidates, build(negative_below=0.5), **settings) == [0, 1]
    assert positives_of(candidates, build(negative_below=0.5), **settings) == [5, 6]
