"""What every mask head has in common."""

import pytest
import torch

from tests.host_waits import host_waits
from tests.mask_heads import HEADS, ask, build_head, regions_of
from tis_ray.models.class_rows import BACKGROUND, class_rows

every_head = pytest.mark.parametrize("name", HEADS)
counts = pytest.mark.parametrize("count", [0, 1, 5])


@every_head
@counts
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("upsample", [True, False])
def test_masks_are_of_the_stated_size(name: str, count: int, training: bool, upsample: bool) -> None:
    head = build_head(name, upsample=upsample).train(training)
    said = ask(head, regions_of(count), torch.ones(count, dtype=torch.int64))
    assert head.size == (12 if upsample else 6)
    learnt = [*said.masks, said.boundary] if said.boundary is not None else said.masks
    assert {mask.shape for mask in learnt} == {(count, head.size, head.size)}
    assert said.features.shape == (count, head.channels, 6, 6)


@every_head
@counts
def test_gradients_reach_every_parameter(name: str, count: int) -> None:
    head = build_head(name)
    said = ask(head, regions_of(count), torch.ones(count, dtype=torch.int64))
    sum(one.sum() for one in (*said.masks, said.boundary) if one is not None).backward()
    assert [key for key, parameter in head.named_parameters() if parameter.grad is None] == []


@every_head
def test_each_region_is_segmented_by_itself(name: str) -> None:
    head = build_head(name)
    labels = torch.tensor([1, 2, 3, 1])
    together, alone = (ask(head, regions_of(4)[kept], labels[kept]) for kept in (slice(None), slice(1, 3)))
    for a, b in zip(together.masks, alone.masks, strict=True):
        torch.testing.assert_close(a[1:3], b)
    if together.boundary is not None:
        torch.testing.assert_close(together.boundary[1:3], alone.boundary)


@every_head
def test_masks_are_of_the_regions_class(name: str) -> None:
    """A class's own weights change its masks and no others'."""
    head, labels = build_head(name), torch.tensor([1, 2, 3])
    before = ask(head, regions_of(3), labels).masks
    rows = class_rows(head)
    assert rows
    assert {row.shared for row in rows.values()} == {(BACKGROUND,)}
    with torch.no_grad():
        for layer in rows:
            head.get_submodule(layer).bias[2] += 1
    for old, new in zip(before, ask(head, regions_of(3), labels).masks, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
        assert (new[1] > old[1]).all()


@every_head
def test_mixed_precision_with_many_classes_stays_finite(name: str) -> None:
    head, regions = build_head(name, num_classes=1203), regions_of(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = ask(head, regions, torch.tensor([1, 600, 1203]))
    with torch.no_grad():
        exact = ask(head, regions, torch.tensor([1, 600, 1203]))
    for rough, fine in zip(said.masks, exact.masks, strict=True):
        torch.testing.assert_close(rough.float(), fine, atol=1e-3, rtol=0.1)
    sum(mask.float().sum() for mask in said.masks).backward()
    assert torch.isfinite(regions.grad).all()


@every_head
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_layers_are_normalised_where_asked(name: str, norm: str) -> None:
    head = build_head(name, norm=norm)
    kind = {"batch": torch.nn.BatchNorm2d, "group": torch.nn.GroupNorm}[norm]
    assert sum(isinstance(module, kind) for module in head.modules()) >= 2
    ask(head, regions_of(0), torch.ones(0, dtype=torch.int64))  # batch statistics survive it
    assert all(torch.isfinite(value).all() for value in head.state_dict().values())


@every_head
def test_nothing_waits_for_the_device(name: str) -> None:
    head, labels = build_head(name), torch.tensor([1, 2, 3])
    with host_waits() as found:
        said = ask(head, regions_of(3), labels)
        torch.stack([mask.sum() for mask in said.masks]).sum().backward()
    assert not found


@every_head
def test_it_begins_with_the_weights_of_a_plain_head(name: str) -> None:
    plain, head = build_head("convs").state_dict(), build_head(name).state_dict()
    assert {key: value.shape for key, value in plain.items()}.items() <= {
        key: value.shape for key, value in head.items()
    }.items()
