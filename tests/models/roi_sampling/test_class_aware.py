"""Each class's positives in the number that follows from how many proposals are good over all classes."""

from fractions import Fraction

import pytest
import torch

from tests.roi_candidates import by_chance, negatives_of, positives_of, written
from tis_ray.models.roi_sampling import Candidates
from tis_ray.models.roi_sampling.class_aware import build

ALL = {"size": 1000, "max_positives": 1000, "positive_iou": 0.5}
TWO_CLASSES = written([0.9, 0.8, 0.7, 0.6, 0.55, 0.4, 0.35, 0.2], [0, 0, 0, 0, 1, 1, 1, 1], [1, 2])


def quotas(candidates: Candidates, *, alpha: str, iou: float) -> dict[int, int]:
    """How many proposals of each class are positive, in fractions and by Python's rounding to the even number."""
    num_proposals = len(candidates.overlaps) - len(candidates.object_labels)
    overlaps, labels = candidates.overlaps.tolist()[:num_proposals], candidates.labels.tolist()
    good = sum(overlap >= iou for overlap in overlaps)
    of_class = [label for overlap, label in zip(overlaps, labels, strict=False) if overlap > 0]
    parts = candidates.object_labels.tolist() if alpha == "quota" else of_class
    return {label: round(Fraction(good * parts.count(label), len(parts))) for label in set(parts)}


def expected(candidates: Candidates, *, alpha: str, iou: float, min_iou: float) -> list[int]:
    """The positives, class by class; objects' own boxes among them."""
    num_proposals = len(candidates.overlaps) - len(candidates.object_labels)
    overlaps, labels = candidates.overlaps.tolist(), candidates.labels.tolist()
    chosen = list(range(num_proposals, len(overlaps)))
    for label, quota in quotas(candidates, alpha=alpha, iou=iou).items():
        of_class = [place for place in range(num_proposals) if labels[place] == label and overlaps[place] > 0]
        closest = sorted(of_class, key=lambda place: -overlaps[place])[:quota]
        chosen += [place for place in closest if overlaps[place] >= min_iou]
    return sorted(chosen)


def test_bounds_are_those_of_each_class_and_halves_go_to_the_even_number() -> None:
    # alpha = 5 good proposals / 2 objects = 2.5, hence two of each class: bounds 0.8 and 0.4.
    assert positives_of(TWO_CLASSES, build(), **ALL) == [0, 1, 4, 5, 8, 9]
    assert negatives_of(TWO_CLASSES, build(), **ALL) == [2, 3, 6, 7]


def test_share_is_that_of_the_proposals_that_overlap_an_object() -> None:
    # 5 of 8 are good: round(2.5) = 2 of each class's four; proposals in the void change nothing.
    assert positives_of(TWO_CLASSES, build(alpha="share"), **ALL) == [0, 1, 4, 5, 8, 9]
    far = written([*TWO_CLASSES.overlaps[:8].tolist(), *[0.0] * 50], [0, 0, 0, 0, 1, 1, 1, 1, *[0] * 50], [1, 2])
    for min_iou in (0.3, 0):
        assert positives_of(far, build(alpha="share", min_iou=min_iou), **ALL) == [0, 1, 4, 5, 58, 59]


def test_classes_have_positives_by_their_objects_or_by_their_proposals() -> None:
    # One object of class 1 has six proposals, two of class 2 have two; four of all are good.
    candidates = written([0.9, 0.8, 0.7, 0.6, 0.45, 0.4, 0.35, 0.3], [0, 0, 0, 0, 0, 0, 1, 2], [1, 2, 2])
    assert positives_of(candidates, build(), **ALL)[:-3] == [0, 6, 7]  # 4 / 3 * 1 and 4 / 3 * 2
    assert positives_of(candidates, build(alpha="share"), **ALL)[:-3] == [0, 1, 2, 6]  # 6 / 2 and 2 / 2


def test_no_positive_lies_below_the_floor() -> None:
    candidates = written([0.9, 0.8, 0.7, 0.6, 0.31, 0.3, 0.29], [0, 0, 0, 0, 1, 1, 1], [1, 2])
    assert positives_of(candidates, build(), **ALL) == [0, 1, 4, 5, 7, 8]
    assert positives_of(candidates, build(min_iou=0.31), **ALL) == [0, 1, 4, 7, 8]
    assert positives_of(candidates, build(min_iou=0.95), **ALL) == [7, 8]


def test_good_is_what_alpha_iou_says_or_the_bound_of_the_head() -> None:
    assert positives_of(TWO_CLASSES, build(alpha_iou=0.65), **ALL) == [0, 1, 4, 5, 8, 9]  # 1.5 each, to 2
    assert positives_of(TWO_CLASSES, build(alpha_iou=0.85), **ALL) == [8, 9]  # 0.5 each, to 0
    at_bound = ALL | {"positive_iou": 0.85}
    assert positives_of(TWO_CLASSES, build(alpha_iou=None), **at_bound) == [8, 9]
    assert positives_of(TWO_CLASSES, build(), **at_bound) == [0, 1, 4, 5, 8, 9]


def test_negatives_may_have_to_stay_below_an_overlap() -> None:
    assert negatives_of(TWO_CLASSES, build(negative_below=0.5), **ALL) == [6, 7]


@pytest.mark.parametrize("alpha", ["quota", "share"])
@pytest.mark.parametrize(("iou", "min_iou"), [(0.5, 0.3), (0.4, 0.05)])
def test_equals_plain_loops(alpha: str, iou: float, min_iou: float) -> None:
    sampler = build(alpha=alpha, alpha_iou=iou, min_iou=min_iou)
    for seed in range(20):
        candidates = by_chance(70, num_objects=seed % 7, num_classes=1 + seed % 4, seed=seed)
        wanted = expected(candidates, alpha=alpha, iou=iou, min_iou=min_iou)
        assert positives_of(candidates, sampler, **ALL) == wanted
        taken = {*wanted, *torch.where(candidates.ignored)[0].tolist()}
        others = [place for place in range(len(candidates.overlaps)) if place not in taken]
        assert negatives_of(candidates, sampler, **ALL) == others


def test_candidates_may_be_shortlisted() -> None:
    listed = build(by_score=1, by_iou=2)  # proposals 0 and 1: alpha is 1
    assert positives_of(TWO_CLASSES, listed, **ALL) == [0, 8, 9]
    assert negatives_of(TWO_CLASSES, listed, **ALL) == [1]


def test_chance_decides_which_of_too_many_are_taken() -> None:
    few = ALL | {"max_positives": 3}
    seen = set()
    torch.manual_seed(0)
    for _ in range(40):
        chosen = positives_of(TWO_CLASSES, build(), **few)
        assert len(chosen) == 3
        seen.update(chosen)
    assert seen == {0, 1, 4, 5, 8, 9}
