"""Negative examples where nobody looked for every class in every image: none of a class that was not looked for."""

import itertools

import pytest
import torch

from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.menu import check_options
from tis_ray.models.classification import eql

CLASSES = 9
LOGITS = 3 * torch.randn(40, CLASSES, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(-1, CLASSES + 1, (40,), generator=torch.Generator().manual_seed(1))
UNVERIFIED = torch.rand(40, CLASSES, generator=torch.Generator().manual_seed(2)) < 0.6
FEW = torch.tensor([3, 0, 3, -1, 5])


def categories(*shares: float) -> Categories:
    count = len(shares) or CLASSES
    return Categories(tuple(range(count)), tuple(f"class {i}" for i in range(count)), image_shares=shares)


def classifier(*shares: float, **options: object) -> eql.EqualizedSigmoids:
    torch.manual_seed(0)
    return eql.build(4, categories(*shares), **options)


def taught(built: eql.EqualizedSigmoids, labels: torch.Tensor, unverified: torch.Tensor | None = None) -> torch.Tensor:
    """Which terms of the loss have a gradient, bool (R, K)."""
    logits = torch.zeros(len(labels), CLASSES, requires_grad=True)
    built.loss(logits, labels, unverified).backward()
    return logits.grad != 0


@pytest.mark.parametrize("tail_share", [0.0, 0.1])
def test_verified_is_the_formula(tail_share: float) -> None:
    shares = torch.rand(CLASSES, generator=torch.Generator().manual_seed(3)).pow(3).tolist()
    found = classifier(*shares, tail_share=tail_share, negatives="verified").loss(LOGITS, LABELS, UNVERIFIED)
    total = 0.0
    for region, j in itertools.product(range(40), range(CLASSES)):
        label, logit = int(LABELS[region]), LOGITS[region, j].double()
        if label == j + 1:
            total -= float(logit.sigmoid().log())
        elif label == 0 or (label > 0 and shares[j] >= tail_share):
            total -= float((1 - logit.sigmoid()).log()) * (not UNVERIFIED[region, j])
    assert found.item() == pytest.approx(total / int((LABELS >= 0).sum()), rel=1e-5)


@pytest.mark.parametrize("negatives", ["all", "sampled"])
def test_other_rules_do_not_ask_what_was_verified(negatives: str) -> None:
    nothing = torch.ones(5, CLASSES, dtype=torch.bool)
    built = [classifier(negatives=negatives, sampled_classes=5) for _ in range(2)]
    torch.manual_seed(0)
    alone = taught(built[0], FEW)
    torch.manual_seed(0)
    assert torch.equal(taught(built[1], FEW, nothing), alone)


def test_an_object_teaches_its_own_class_though_others_of_it_may_not_be_annotated() -> None:
    everything = torch.ones(5, CLASSES, dtype=torch.bool)
    assert taught(classifier(negatives="verified"), FEW, everything).nonzero().tolist() == [[0, 2], [2, 2], [4, 4]]


def test_sampled_says_no_to_the_classes_of_the_batch_and_to_others_until_there_are_enough() -> None:
    built = classifier(negatives="sampled", sampled_classes=5)
    rows = taught(built, FEW)
    assert not rows[3].any()  # a region that does not count
    for row in rows[[0, 1, 2, 4]]:
        assert torch.equal(row, rows[0])
    assert rows[0].sum() == 5
    assert rows[0, [2, 4]].all()


def test_all_classes_of_the_batch_are_told_however_few_are_asked_for() -> None:
    rows = taught(classifier(negatives="sampled", sampled_classes=1), FEW)
    assert rows[1].nonzero().flatten().tolist() == [2, 4]


def test_a_batch_of_background_draws_all_of_its_classes() -> None:
    rows = taught(classifier(negatives="sampled", sampled_classes=4), torch.tensor([0, 0]))
    assert rows.sum(dim=1).tolist() == [4, 4]
    assert taught(classifier(negatives="sampled", sampled_classes=50), torch.tensor([0])).all()


def test_classes_are_drawn_by_the_root_of_their_share_of_images_and_those_of_none_never() -> None:
    shares = (0.0, 0.01, 0.04, 0.09, 0.16, 0.0, 0.0, 0.0, 0.0)
    built = classifier(*shares, negatives="sampled", sampled_classes=1, tail_share=0.0)
    torch.manual_seed(0)
    times = sum(built.negatives(torch.tensor([0]), None)[0].int() for _ in range(4000))
    expected = torch.tensor(shares).sqrt() * 4000
    torch.testing.assert_close(times.float(), expected, rtol=0, atol=4 * 4000**0.5 / 2)
    assert (times[expected == 0] == 0).all()
    crowded = classifier(*shares, negatives="sampled", sampled_classes=8)
    assert crowded.negatives(torch.tensor([0]), None)[0].tolist() == [share > 0 for share in shares]


def test_one_seed_draws_the_same_classes() -> None:
    built = classifier(negatives="sampled", sampled_classes=3)
    draws = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        draws.append(tuple(built.negatives(torch.tensor([0]), None)[0].tolist()))
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def test_a_checkpoint_holds_no_weights_of_classes() -> None:
    plain = classifier(*[0.1] * CLASSES).state_dict().keys()
    assert classifier(*[0.1] * CLASSES, negatives="sampled").state_dict().keys() == plain


def test_another_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"eql\.negatives: .*'all', 'verified' or 'sampled'; got 'some'"):
        check_options(eql.build, {"negatives": "some"}, key="eql")
