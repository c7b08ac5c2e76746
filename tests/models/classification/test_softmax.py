"""The baseline: softmax over background and all classes."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny import CATEGORIES
from tis_ray.models.classification import softmax


def test_loss_is_the_mean_cross_entropy_of_the_regions_that_count() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, -1, 3, 1, -1])
    loss = softmax.build(6, CATEGORIES).loss(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits[[0, 2, 3]], torch.tensor([0, 3, 1])))


def test_scores_are_probabilities_without_background() -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0, -1.0]])
    torch.testing.assert_close(softmax.build(6, CATEGORIES).scores(logits), logits.softmax(dim=1)[:, 1:])


@pytest.mark.parametrize("cosine", [None, 20.0])
def test_logits_under_autocast_are_those_without(cosine: float | None) -> None:
    torch.manual_seed(0)
    classifier, features = softmax.build(64, CATEGORIES, cosine=cosine), torch.randn(7, 64).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier(features)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, classifier(features.float()), rtol=0, atol=0)


def test_cosine_logits_know_no_length() -> None:
    torch.manual_seed(0)
    classifier, features = softmax.build(8, CATEGORIES, cosine=16.0), torch.randn(5, 8)
    logits = classifier(features)
    for row in range(5):
        for column in range(4):
            angle = torch.cosine_similarity(features[row], classifier.layer.weight[column], dim=0)
            torch.testing.assert_close(logits[row, column], 16 * angle, atol=1e-5, rtol=0)
    with torch.no_grad():
        classifier.layer.weight *= 7
    torch.testing.assert_close(classifier(features * 3), logits)
    assert torch.isfinite(classifier(torch.zeros(1, 8))).all()
