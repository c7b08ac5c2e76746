"""The Equalization Loss: rare classes hear no no from objects of other classes."""

import pytest
import torch
import torch.nn.functional as F

from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.menu import check_options
from tis_ray.models.classification import eql


def table(*shares: float) -> Categories:
    ids = tuple(range(1, len(shares) + 1))
    return Categories(ids, tuple(f"class {i}" for i in ids), image_shares=shares)


def term_by_term(logits: torch.Tensor, labels: torch.Tensor, shares: tuple[float, ...], tail_share: float) -> float:
    total, regions = 0.0, 0
    for row, label in zip(logits.double(), labels.tolist(), strict=True):
        if label < 0:
            continue
        regions += 1
        for j, logit in enumerate(row):
            own = label == j + 1
            weight = 1 - (label > 0) * (shares[j] < tail_share) * (1 - own)
            chance = logit.sigmoid() if own else 1 - logit.sigmoid()
            total -= weight * float(chance.log())
    return total / max(regions, 1)


def test_worked_example() -> None:
    logits, labels = torch.tensor([[1, 0, -1], [0.5, -0.5, 2]]), torch.tensor([1, 0])
    loss = eql.build(4, table(0.05, 0.0005, 0.01)).loss(logits, labels)
    assert loss.item() == pytest.approx(2.100803, abs=1e-6)
    plain = eql.build(4, table(0.05, 0.0005, 0.01), tail_share=0.0).loss(logits, labels)
    assert plain.item() == pytest.approx(2.447376, abs=1e-6)


@pytest.mark.parametrize("tail_share", [0.0, 0.0011, 0.02, 1.0])
def test_loss_is_the_formula(tail_share: float) -> None:
    random = torch.Generator().manual_seed(1)
    shares = tuple(torch.rand(9, generator=random).pow(5).tolist())
    logits = 4 * torch.randn(30, 9, generator=random)
    labels = torch.randint(-1, 10, (30,), generator=random)
    found = eql.build(4, table(*shares), tail_share=tail_share).loss(logits, labels)
    assert found.item() == pytest.approx(term_by_term(logits, labels, shares, tail_share), rel=1e-5)


def test_a_tail_class_learns_from_its_own_objects_and_from_background_alone() -> None:
    logits = torch.zeros(3, 2, requires_grad=True)
    eql.build(4, table(0.5, 0.0001)).loss(logits, torch.tensor([1, 2, 0])).backward()
    expected = torch.tensor([[-0.5, 0.0], [0.5, -0.5], [0.5, 0.5]]) / 3
    torch.testing.assert_close(logits.grad, expected)


def test_a_share_at_the_bound_is_not_tail() -> None:
    assert eql.build(4, table(0.0011, 0.00109, 0.0)).tail.tolist() == [False, True, True]


def test_without_shares_no_class_is_tail() -> None:
    categories = Categories((1, 2), ("a", "b"), counts=(1, 2))
    logits, labels = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    wanted = F.one_hot(labels, 3)[:, 1:].float()
    loss = eql.build(4, categories, tail_share=1.0).loss(logits, labels)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / 4)


@pytest.mark.parametrize("labels", [[], [-1, -1]], ids=["no region", "none that counts"])
def test_nothing_to_learn_from_is_no_loss(labels: list[int]) -> None:
    logits = torch.randn(len(labels), 3, requires_grad=True)
    loss = eql.build(4, table(0.1, 0.1, 0.0)).loss(logits, torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("cosine", [None, 20.0])
def test_every_class_begins_at_one_in_a_thousand(cosine: float | None) -> None:
    torch.manual_seed(0)
    classifier = eql.build(16, table(*[0.01] * 5), cosine=cosine)
    scores = classifier.scores(classifier(torch.zeros(2, 16)))
    torch.testing.assert_close(scores, torch.full((2, 5), 0.001))
    assert not any("tail" in key for key in classifier.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_thousand_classes_are_stable_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    classifier = eql.build(256, table(*torch.rand(1203).pow(8).tolist()))
    features = (8 * torch.randn(64, 256)).to(dtype).requires_grad_()
    labels = torch.randint(-1, 1204, (64,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = classifier.loss(classifier(features), labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert 1 < loss.item() < 50  # half a sure miss for each region, and a thousandth for each class
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(classifier.layer.weight.grad).all()
    assert torch.isfinite(classifier.loss(torch.full((2, 1203), 1e4), torch.tensor([0, 7]))).all()


def test_a_share_over_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"eql\.tail_share: Input should be less than or equal to 1; got 11"):
        check_options(eql.build, {"tail_share": 11}, key="eql")
