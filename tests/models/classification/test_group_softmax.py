"""Balanced GroupSoftmax: classes compete with those that are about as frequent."""

import math
from itertools import pairwise

import pytest
import torch

from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.menu import check_options
from tis_ray.models.classification import group_softmax

BOUNDS = (10, 100, 1000)


def table(*counts: int) -> Categories:
    ids = tuple(range(1, len(counts) + 1))
    return Categories(ids, tuple(f"class {i}" for i in ids), counts=counts)


def groups_of(counts: tuple[int, ...], bounds: tuple[int, ...] = BOUNDS) -> list[list[int]]:
    """Classes of each group."""
    edges = [0, *bounds, math.inf]
    return [[k for k, count in enumerate(counts) if low <= count < high] for low, high in pairwise(edges)]


def shares(logits: list[float]) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def loop_scores(row: list[float], groups: list[list[int]]) -> dict[int, float]:
    found = {}
    first_class = 2 + len(groups)
    for g, classes in enumerate(groups):
        chances = shares([row[2 + g], *(row[first_class + k] for k in classes)])[1:]
        found |= {k: shares(row[:2])[1] * chance for k, chance in zip(classes, chances, strict=True)}
    return found


def loop_loss(logits: torch.Tensor, labels: list[int], groups: list[list[int]]) -> float:
    """With all others in each group: what sampling comes to where the ratio is large."""
    rows = logits.double().tolist()
    counted = [(row, label) for row, label in zip(rows, labels, strict=True) if label >= 0]
    total = -sum(math.log(shares(row[:2])[label > 0]) for row, label in counted) / max(len(counted), 1)
    for g, classes in enumerate(groups):
        if not any(label - 1 in classes for _, label in counted):
            continue
        for row, label in counted:
            entries = [row[2 + g], *(row[2 + len(groups) + k] for k in classes)]
            target = classes.index(label - 1) + 1 if label - 1 in classes else 0
            total -= math.log(shares(entries)[target]) / len(counted)
    return total


def test_worked_example() -> None:
    classifier = group_softmax.build(4, table(3, 20, 30), bounds=(10,))
    logits = torch.tensor([[0, 1.5, 0, 1, 2, 1, 0]])  # bg fg, others of both groups, a, b, c
    scores = classifier.scores(logits)[0].tolist()
    assert scores == pytest.approx([0.720117, 0.345277, 0.127020], abs=1e-6)
    assert logits[:, :2].softmax(dim=1)[0, 0].item() == pytest.approx(0.182426, abs=1e-6)


COUNTS = (5000, 0, 99, 100, 9, 10, 1000, 999, 40)


def test_scores_are_those_of_loops_over_groups_and_classes() -> None:
    classifier = group_softmax.build(4, table(*COUNTS))
    logits = torch.randn(20, 2 + 4 + 9, generator=torch.Generator().manual_seed(0))
    for row, found in zip(logits.tolist(), classifier.scores(logits).tolist(), strict=True):
        expected = loop_scores(row, groups_of(COUNTS))
        assert found == pytest.approx([expected[k] for k in range(9)], rel=1e-5)


@pytest.mark.parametrize("counts", [COUNTS, (1, 2, 3), (2000, 3000)], ids=["all groups", "rare only", "frequent only"])
def test_loss_with_all_others_is_that_of_loops(counts: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(25, 6 + len(counts), generator=random)
    labels = torch.randint(-1, len(counts) + 1, (25,), generator=random)
    found = group_softmax.build(4, table(*counts), others_ratio=1000.0).loss(logits, labels)
    assert found.item() == pytest.approx(loop_loss(logits, labels.tolist(), groups_of(counts)), rel=1e-5)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5, 8.0])
def test_a_group_learns_from_its_own_regions_and_so_many_others(ratio: float) -> None:
    """Gradients on the entry for others show which regions were taken."""
    labels = torch.tensor([1] * 3 + [2] * 2 + [0] * 30 + [-1] * 5)
    classifier = group_softmax.build(4, table(5, 5000), others_ratio=ratio)
    taken = {}
    for seed in range(20):
        torch.manual_seed(seed)
        logits = torch.zeros(40, 8, requires_grad=True)
        classifier.loss(logits, labels).backward()
        assert (logits.grad[35:] == 0).all()
        assert (logits.grad[:35, 0] != 0).all()  # background from objects: all regions
        assert (logits.grad[:, 3:5] == 0).all()  # groups without classes
        for entry, own in ((2, slice(0, 3)), (5, slice(3, 5))):
            regions = logits.grad[:, entry] != 0
            assert regions[own].all()
            size = own.stop - own.start
            chosen = size + min(math.floor(ratio * size), 35 - size)
            assert regions.sum() == chosen
            torch.testing.assert_close(logits.grad[own, entry], torch.full((size,), 0.5 / chosen))
            taken.setdefault(entry, set()).update(torch.where(regions)[0].tolist())
    if ratio == 8:
        assert len(taken[2]) == 35  # anybody's turn comes


def test_background_alone_teaches_only_that_there_is_nothing() -> None:
    logits = torch.zeros(4, 9, requires_grad=True)
    loss = group_softmax.build(4, table(5, 50, 5000)).loss(logits, torch.tensor([0, 0, 0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert (logits.grad[:, 2:] == 0).all()


@pytest.mark.parametrize("labels", [[], [-1, -1]], ids=["no region", "none that counts"])
def test_nothing_to_learn_from_is_no_loss(labels: list[int]) -> None:
    classifier = group_softmax.build(4, table(5, 50, 5000))
    logits = torch.randn(len(labels), 9, requires_grad=True)
    loss = classifier.loss(logits, torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
    assert classifier.scores(logits).shape == (len(labels), 3)


def test_without_counts_all_classes_are_in_the_last_group() -> None:
    known, unknown = table(5000, 6000, 7000), Categories((1, 2, 3), ("a", "b", "c"))
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    expected = group_softmax.build(4, known).scores(logits)
    torch.testing.assert_close(group_softmax.build(4, unknown).scores(logits), expected)


def test_scores_of_all_classes_sum_to_less_than_one_in_each_group() -> None:
    classifier = group_softmax.build(4, table(*COUNTS))
    scores = classifier.scores(5 * torch.randn(50, 15, generator=torch.Generator().manual_seed(0)))
    assert ((scores >= 0) & (scores <= 1)).all()
    for classes in groups_of(COUNTS):
        assert (scores[:, classes].sum(dim=1) <= 1 + 1e-6).all()


@pytest.mark.parametrize("cosine", [None, 20.0])
def test_a_thousand_classes_are_finite_under_autocast(cosine: float | None) -> None:
    torch.manual_seed(0)
    counts = tuple((10 ** (5 * torch.rand(1203))).int().tolist())
    classifier = group_softmax.build(256, table(*counts), cosine=cosine)
    assert list(classifier.state_dict()) == (["layer.weight", "layer.bias"] if cosine is None else ["layer.weight"])
    features = (8 * torch.randn(64, 256)).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier(features)
        loss = classifier.loss(logits, torch.randint(-1, 1204, (64,)))
    loss.backward()
    assert logits.shape == (64, 1209)
    assert (logits.dtype, loss.dtype) == (torch.float32, torch.float32)
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(classifier.layer.weight.grad).all()
    assert classifier.scores(logits).shape == (64, 1203)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": [10, 10]}, r"bounds: expected rising numbers of instances; got \[10, 10\]"),
        ({"bounds": []}, r"bounds: .*at least 1 item"),
        ({"bounds": [0, 5]}, r"bounds\.0: .*greater than 0"),
        ({"others_ratio": 0}, r"others_ratio: .*greater than 0"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"group_softmax\.{message}"):
        check_options(group_softmax.build, options, key="group_softmax")
