"""Draws of a size known beforehand: how many places are filled, by what, and that chance treats all alike."""

import itertools
from collections import Counter

import pytest
import torch
from torch import Tensor

from tests.host_waits import host_waits
from tis_ray.models.draw import Drawn, draw

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1


def drawn_from(kinds: list[int], *, size: int, max_positives: int, priority: Tensor | None = None) -> Drawn:
    kind = torch.tensor(kinds, dtype=torch.int64)
    return draw(kind == POSITIVE, kind == NEGATIVE, size=size, max_positives=max_positives, priority=priority)


@pytest.mark.parametrize("size", range(6))
def test_as_many_places_are_filled_as_examples_and_bounds_allow(size: int) -> None:
    for kinds in itertools.product([POSITIVE, NEGATIVE, NEITHER], repeat=4):
        for max_positives in range(6):
            index, positive, used = drawn_from(list(kinds), size=size, max_positives=max_positives)
            num_positives = min(kinds.count(POSITIVE), max_positives, size)
            num_negatives = min(kinds.count(NEGATIVE), min(size, 4) - num_positives)
            filled = num_positives + num_negatives
            assert len(index) == len(positive) == len(used) == min(size, 4)
            assert used.tolist() == [True] * filled + [False] * (len(used) - filled)
            assert positive.tolist() == [True] * num_positives + [False] * (len(used) - num_positives)
            chosen = index[:filled].tolist()
            assert [kinds[place] for place in chosen] == [POSITIVE] * num_positives + [NEGATIVE] * num_negatives
            assert len(set(chosen)) == filled


def test_nothing_to_draw_from_fills_nothing() -> None:
    index, positive, used = drawn_from([], size=256, max_positives=128)
    assert index.shape == positive.shape == used.shape == (0,)
    assert (index.dtype, positive.dtype, used.dtype) == (torch.int64, torch.bool, torch.bool)


def test_every_choice_is_equally_likely() -> None:
    kinds = [POSITIVE, NEGATIVE, POSITIVE, NEITHER, POSITIVE, NEGATIVE, NEGATIVE, POSITIVE]
    torch.manual_seed(0)
    draws = 2400
    pairs: dict[bool, Counter[tuple[int, ...]]] = {True: Counter(), False: Counter()}
    for _ in range(draws):
        index, positive, _ = drawn_from(kinds, size=4, max_positives=2)
        for kind, found in pairs.items():
            found[tuple(sorted(index[positive == kind].tolist()))] += 1
    for kind, num_choices in ((True, 6), (False, 3)):
        assert len(pairs[kind]) == num_choices
        share = draws / num_choices
        chi_square = sum((count - share) ** 2 / share for count in pairs[kind].values())
        assert chi_square < 13.8  # exceeded by chance once in 60 (6 choices) or in 1000 (3); the seed is fixed


def test_the_same_seed_draws_the_same() -> None:
    kinds = [place % 3 - 1 for place in range(300)]
    drawn = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        drawn.append(drawn_from(kinds, size=50, max_positives=20).index)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_positives_of_the_largest_priority_are_taken_and_0_is_one_too() -> None:
    kinds = [POSITIVE] * 4 + [NEGATIVE] * 3 + [NEITHER]
    priority = torch.tensor([0.0, 0.5, 0.0, 0.9, 7.0, 7.0, 7.0, 9.0])
    few = drawn_from(kinds, size=8, max_positives=2, priority=priority)
    assert few.index[few.positive].tolist() == [3, 1]
    all_of_them = drawn_from(kinds, size=8, max_positives=8, priority=priority)
    assert sorted(all_of_them.index[all_of_them.positive].tolist()) == [0, 1, 2, 3]
    assert sorted(all_of_them.index[all_of_them.used & ~all_of_them.positive].tolist()) == [4, 5, 6]


def test_inputs_stay_as_they_are() -> None:
    positive, negative = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    draw(positive, negative, size=2, max_positives=1)
    assert (positive.tolist(), negative.tolist()) == ([True, False, False], [False, True, False])


@pytest.mark.parametrize("priority", [None, torch.rand(30)], ids=["by chance", "by priority"])
def test_nothing_waits_for_the_device(priority: Tensor | None) -> None:
    kind = torch.arange(30) % 3
    with host_waits() as waits:
        draw(kind == 0, kind == 1, size=12, max_positives=6, priority=priority)
    assert not waits
