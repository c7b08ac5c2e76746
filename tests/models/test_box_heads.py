"""Every box head: two sets of vectors of the stated widths for each region, and for none; and what sets them apart."""

import pytest
import torch
from torch import nn

from tis_ray.menu import choices, pick

HEADS = choices("tis_ray.models.box_heads")


def build(name: str, **options: object) -> nn.Module:
    return pick("tis_ray.models.box_heads", "build", name, key="head")(6, 7, **options)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_regions_become_vectors_of_the_stated_widths(name: str, count: int) -> None:
    head = build(name)
    regions = torch.rand(count, 6, 7, 7, requires_grad=True)
    for_classes, for_boxes = head(regions)
    assert for_classes.shape == (count, head.class_channels)
    assert for_boxes.shape == (count, head.box_channels)
    for vectors in (for_classes, for_boxes):
        (gradient,) = torch.autograd.grad(vectors.sum(), regions, retain_graph=True)
        assert count == 0 or gradient.any()
    (for_classes.sum() + for_boxes.sum()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_each_region_is_looked_at_by_itself(name: str) -> None:
    head = build(name)
    regions = torch.rand(3, 6, 7, 7, generator=torch.Generator().manual_seed(0))
    for together, alone in zip(head(regions), head(regions[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        pytest.param("mlp", ["fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"], id="mlp"),
        pytest.param("convs", ["0.0.weight", "0.0.bias", "2.weight", "2.bias"], id="convs"),
    ],
)
def test_parameters_are_named_as_torchvision_names_them(name: str, names: list[str]) -> None:
    head = build(name, **({"channels": (8,)} if name == "convs" else {}))
    assert list(head.state_dict()) == names


@pytest.mark.parametrize(("norm", "count"), [(None, 0), ("batch", 2), ("group", 2)])
def test_convolutions_are_normalised_where_asked(norm: str | None, count: int) -> None:
    head = build("convs", channels=(8, 12), hidden=10, norm=norm)
    assert sum(isinstance(module, nn.BatchNorm2d | nn.GroupNorm) for module in head.modules()) == count
    assert [module.out_channels for module in head.modules() if isinstance(module, nn.Conv2d)] == [8, 12]
    assert head.class_channels == head.box_channels == 10


@pytest.mark.parametrize("name", ["convs", "split"])
def test_batch_statistics_survive_a_step_without_regions(name: str) -> None:
    head = build(name, channels=(8,), norm="batch").train()
    head(torch.zeros(0, 6, 7, 7))
    (norm,) = (module for module in head.modules() if isinstance(module, nn.BatchNorm2d))
    assert torch.isfinite(norm.running_mean).all()
    assert torch.isfinite(norm.running_var).all()


def test_a_convolution_of_the_location_branch_has_590336_parameters_with_its_norm() -> None:
    head = pick("tis_ray.models.box_heads", "build", "split", key="head")(256, 7)
    assert [sum(p.numel() for p in block.parameters()) for block in head.boxes] == [590336] * 4 + [0]
    norms = [module for module in head.boxes.modules() if isinstance(module, nn.GroupNorm)]
    assert [norm.num_groups for norm in norms] == [32] * 4
    assert sum(p.numel() for p in head.classes.parameters()) == (256 * 49 + 1) * 1024 + 1025 * 1024


def test_branches_of_the_split_head_share_nothing() -> None:
    head = build("split", hidden=4, channels=(8,))
    for_classes, _ = head(torch.rand(2, 6, 7, 7))
    for_classes.sum().backward()
    with_grad = {name.split(".")[0] for name, parameter in head.named_parameters() if parameter.grad is not None}
    assert with_grad == {"classes"}


def test_location_branch_keeps_places_apart() -> None:
    head = build("split", channels=(8,), norm=None)
    regions = torch.rand(1, 6, 7, 7, generator=torch.Generator().manual_seed(0))
    moved = regions.clone()
    moved[:, :, 0, 0] += 1
    changed = (head(regions)[1] != head(moved)[1]).reshape(8, 7, 7).any(dim=0)
    assert changed[:2, :2].any()
    assert not changed[2:].any()
    assert not changed[:, 2:].any()


def test_average_is_the_mean_of_each_channel() -> None:
    regions = torch.arange(2 * 6 * 49.0).reshape(2, 6, 7, 7)
    for vectors in build("average")(regions):
        torch.testing.assert_close(vectors, torch.arange(12.0).reshape(2, 6) * 49 + 24)
