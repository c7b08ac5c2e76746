"""What every way to tell classes apart has in common."""

import pytest
import torch

from tests.classifiers import MENU, every_classifier
from tests.host_waits import host_waits
from tis_ray import menu
from tis_ray.instances import Categories
from tis_ray.models.classification import Classifier

CATEGORIES = Categories(
    (1, 2, 3, 4), ("a", "b", "c", "d"), counts=(3, 50, 7000, 10), image_shares=(0.0001, 0.01, 0.5, 0.0)
)
CLASSIFIERS = [
    *every_classifier(),
    *(
        pytest.param(("eql", {"negatives": rule, "sampled_classes": 2}), id=f"eql {rule}")
        for rule in ("verified", "sampled")
    ),
]
LABELS = torch.tensor([0, 1, 2, 3, 4, -1, 0, 0])


@pytest.fixture(params=CLASSIFIERS)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    name, options = request.param
    torch.manual_seed(0)
    return menu.pick(MENU, "build", name, key="test")(8, CATEGORIES, **options)


@pytest.mark.parametrize("count", [0, 1, 8])
def test_logits_have_a_column_for_each_row_and_scores_one_for_each_class(classifier: Classifier, count: int) -> None:
    logits = classifier(torch.randn(count, 8))
    scores = classifier.scores(logits)
    assert logits.shape == (count, len(classifier.layer.weight))
    assert scores.shape == (count, len(CATEGORIES))
    assert (logits.dtype, scores.dtype) == (torch.float32, torch.float32)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_regions_that_do_not_count_teach_nothing(classifier: Classifier) -> None:
    features = torch.randn(8, 8, requires_grad=True)
    classifier.loss(classifier(features), LABELS).backward()
    assert (features.grad[LABELS < 0] == 0).all()
    assert (features.grad[LABELS > 0] != 0).any(dim=1).all()


def test_where_all_was_verified_nothing_changes(classifier: Classifier) -> None:
    logits, losses = torch.randn(8, len(classifier.layer.weight)), []
    for unverified in (None, torch.zeros(8, len(CATEGORIES), dtype=torch.bool)):
        torch.manual_seed(1)  # some draw their examples
        losses.append(classifier.loss(logits, LABELS, unverified))
    assert torch.equal(*losses)


@pytest.mark.parametrize("labels", [[], [-1, -1]], ids=["no region", "none that counts"])
def test_nothing_to_learn_from_is_no_loss_whatever_was_verified(classifier: Classifier, labels: list[int]) -> None:
    features = torch.randn(len(labels), 8)
    unverified = torch.ones(len(labels), len(CATEGORIES), dtype=torch.bool)
    loss = classifier.loss(classifier(features), torch.tensor(labels, dtype=torch.int64), unverified)
    loss.backward()
    assert loss.item() == 0
    assert (classifier.layer.weight.grad == 0).all()


def test_training_raises_the_scores_of_what_is_there(classifier: Classifier) -> None:
    features = torch.eye(8)
    before = classifier.scores(classifier(features)).detach()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        classifier.loss(classifier(features), LABELS).backward()
        optimizer.step()
    after = classifier.scores(classifier(features)).detach()
    for region, label in enumerate(LABELS.tolist()):
        if label > 0:
            assert after[region, label - 1] > before[region, label - 1]


def test_nothing_waits_for_the_device(classifier: Classifier) -> None:
    features = torch.randn(8, 8, requires_grad=True)
    with host_waits() as found:
        logits = classifier(features)
        classifier.loss(logits, LABELS, torch.rand(8, 4) < 0.5).backward()
        classifier.scores(logits)
    assert not found


@pytest.mark.parametrize("name", menu.choices(MENU))
def test_is_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        classifier = menu.pick(MENU, "build", name, key="test")(6, CATEGORIES)
    assert classifier.layer.weight.is_meta
