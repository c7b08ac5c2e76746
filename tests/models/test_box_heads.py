"""Every box head: a vector of the stated width for each region, and for none."""

import pytest
import torch
from torch import nn

from tis_ray.menu import choices, pick

HEADS = choices("tis_ray.models.box_heads")


def build(name: str, **options: object) -> nn.Module:
    return pick("tis_ray.models.box_heads", "build", name, key="head")(6, 7, **options)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_regions_become_vectors_of_the_stated_width(name: str, count: int) -> None:
    head = build(name)
    regions = torch.rand(count, 6, 7, 7)
    vectors = head(regions)
    assert vectors.shape == (count, head.out_channels)
    vectors.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(("norm", "count"), [(None, 0), ("batch", 2), ("group", 2)])
def test_convolutions_are_normalised_where_asked(norm: str | None, count: int) -> None:
    head = build("convs", channels=(8, 12), hidden=10, norm=norm)
    assert sum(isinstance(module, nn.BatchNorm2d | nn.GroupNorm) for module in head.modules()) == count
    assert [module.out_channels for module in head.modules() if isinstance(module, nn.Conv2d)] == [8, 12]
    assert head.out_channels == 10


def test_batch_statistics_survive_a_step_without_regions() -> None:
    head = build("convs", channels=(8,), norm="batch").train()
    head(torch.zeros(0, 6, 7, 7))
    (norm,) = (module for module in head.modules() if isinstance(module, nn.BatchNorm2d))
    assert torch.isfinite(norm.running_mean).all()
    assert torch.isfinite(norm.running_var).all()
