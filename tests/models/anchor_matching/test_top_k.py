"""Each object's best anchors are positive: MegDetV2's rule against hand-worked numbers and brute force."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from tis_ray.errors import ConfigError
from tis_ray.models.anchor_matching.top_k import TopMatching, build, ranked, unranked

BOUNDS = {"positive": 0.7, "negative": 0.3}


def brute_force(iou: list[list[float]], *, count: int, min_iou: float) -> tuple[list[int], list[int]]:
    """Labels and matched objects by the words of the rule."""
    num_objects, num_anchors = len(iou), len(iou[0])
    claimants: dict[int, list[int]] = {}
    for g in range(num_objects):
        for a in sorted(range(num_anchors), key=lambda a: (-iou[g][a], a))[:count]:
            if iou[g][a] >= min_iou:
                claimants.setdefault(a, []).append(g)
    labels, matched = [], []
    for a in range(num_anchors):
        closest = max(range(num_objects), key=lambda g: (iou[g][a], -g))
        overlap = iou[closest][a]
        if overlap < BOUNDS["positive"] and a in claimants:
            closest = max(claimants[a], key=lambda g: (iou[g][a], -g))
        positive = overlap >= BOUNDS["positive"] or a in claimants
        labels.append(1 if positive else 0 if overlap < BOUNDS["negative"] else -1)
        matched.append(closest)
    return labels, matched


KNOWN = torch.tensor([[0.8, 0.5, 0.3, 0.0, 0.1], [0.2, 0.6, 0.4, 0.35, 0.0]])


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_known_answer(width: int) -> None:
    """Claims {0, 1} and {1, 2}; both want anchor 1, which overlaps the second more."""
    labels, matched = TopMatching(count=2, min_iou=0.1, **BOUNDS).match(KNOWN.split(width, dim=1))
    assert labels.tolist() == [1, 1, 1, -1, 0]
    assert matched[:3].tolist() == [0, 1, 1]


def test_an_anchor_beyond_the_bound_is_positive_though_its_object_has_better_ones() -> None:
    iou = torch.tensor([[0.9, 0.8, 0.75, 0.6], [0.0, 0.0, 0.2, 0.0]])
    labels, matched = TopMatching(count=1, min_iou=0.1, **BOUNDS).match([iou])
    assert labels.tolist() == [1, 1, 1, -1]
    assert matched[:3].tolist() == [0, 0, 0]  # the second object claims the third anchor, which overlaps the first more


def test_a_claimed_anchor_belongs_to_who_claims_it() -> None:
    """It overlaps the first object more, but that has a better one."""
    iou = torch.tensor([[0.6, 0.5], [0.0, 0.4]])
    labels, matched = TopMatching(count=1, min_iou=0.1, **BOUNDS).match([iou])
    assert (labels.tolist(), matched.tolist()) == ([1, 1], [0, 1])


def test_less_than_the_least_overlap_is_not_claimed() -> None:
    iou = torch.tensor([[0.25, 0.1, 0.09, 0.0]])
    labels, _ = TopMatching(count=4, min_iou=0.1, **BOUNDS).match([iou])
    assert labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("pairs", [1, 100, 1000, 2**20])
@pytest.mark.parametrize("count", [1, 5, 35, 500])
@pytest.mark.parametrize("num_objects", [1, 8])
def test_equals_brute_force(num_objects: int, count: int, pairs: int) -> None:
    """Corners on whole pixels make equal overlaps, of which the first anchors are taken."""
    generator = torch.Generator().manual_seed(count)
    corners = torch.randint(0, 12, (300 + num_objects, 2), generator=generator)
    sides = torch.randint(1, 8, (300 + num_objects, 2), generator=generator)
    anchors, objects = torch.cat([corners, corners + sides], dim=1).float().split([300, num_objects])
    labels, matched = TopMatching(count=count, min_iou=0.1, pairs=pairs, **BOUNDS)(anchors, objects)
    expected = brute_force(box_iou(objects, anchors).double().tolist(), count=count, min_iou=0.1)
    assert (labels.tolist(), matched.tolist()) == expected


@given(
    iou=st.integers(1, 4).flatmap(
        lambda objects: st.lists(
            st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]), min_size=objects, max_size=objects),
            min_size=1,
            max_size=12,
        )
    ),
    count=st.integers(1, 6),
    width=st.integers(1, 12),
)
@settings(max_examples=200, deadline=None)
def test_equals_brute_force_where_overlaps_are_equal(iou: list[list[float]], count: int, width: int) -> None:
    by_object = torch.tensor(iou).T.contiguous()
    found = TopMatching(count=count, min_iou=0.125, **BOUNDS).match(by_object.split(width, dim=1))
    expected = brute_force(by_object.tolist(), count=count, min_iou=0.125)
    assert tuple(one.tolist() for one in found) == expected


def test_tiny_objects_are_learnt_from_as_many_anchors_as_large_ones() -> None:
    places = torch.cartesian_prod(torch.arange(0.0, 128, 4), torch.arange(0.0, 128, 4))
    anchors = torch.cat([torch.cat([places - side / 2, places + side / 2], dim=1) for side in (8, 64)])
    objects = torch.tensor([[20.0, 20, 26, 26], [60.0, 60, 122, 120]])
    labels, matched = build(count=4)(anchors, objects)
    tiny = (labels == 1) & (matched == 0)
    assert tiny.sum() == 4
    assert (box_iou(objects, anchors)[0, tiny] >= 0.1).all()


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"negative: expected at most positive, which is 0\.5; got 0\.6"):
        build(positive=0.5, negative=0.6)


def keys_of(iou: Tensor, places: Tensor) -> list[int]:
    return ranked(iou, places).tolist()


def test_keys_order_by_overlap_and_then_by_place() -> None:
    iou = torch.tensor([0.0, 1e-30, 0.1, 0.1, 0.10000001, 1.0])
    places = torch.tensor([5, 4, 3, 2, 2**32 - 1, 0])
    keys = keys_of(iou, places)
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    back = unranked(torch.tensor(keys))
    assert torch.equal(back[0], iou)
    assert torch.equal(back[1], places)
