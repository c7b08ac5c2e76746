"""The pyramid's levels, the subsampled fifth one among them, and its normalisation."""

import pytest
import torch
from torch import nn

from tis_ray.models.deformable import DeformableConv2d
from tis_ray.models.necks.fpn import build
from tis_ray.models.norm import SyncBatchNorm2d


def maps(height: int, width: int) -> list[torch.Tensor]:
    """Backbone maps of two images, strides 4 to 32."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(2, channels, -(-height // stride), -(-width // stride), generator=generator)
        for channels, stride in zip((4, 8, 12, 16), (4, 8, 16, 32), strict=True)
    ]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("size", "coarsest"),
    [((64, 64), (1, 1)), ((32, 32), (1, 1)), ((32, 96), (1, 2)), ((256, 448), (4, 7))],
    ids=str,
)
def test_fifth_level_is_every_second_place_of_the_fourth(size: tuple[int, int], coarsest: tuple[int, int]) -> None:
    levels = build((4, 8, 12, 16), channels=6)(maps(*size))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert levels["pool"].shape == (2, 6, *coarsest)
    assert torch.equal(levels["pool"], levels["3"][:, :, ::2, ::2])


@pytest.mark.parametrize(
    ("norm", "layer"), [("batch", nn.BatchNorm2d), ("sync", SyncBatchNorm2d), ("group", nn.GroupNorm)]
)
def test_norm_follows_every_convolution(norm: str, layer: type[nn.Module]) -> None:
    neck = build((4, 8, 12, 16), channels=6, norm=norm)
    kinds = [type(module) for module in neck.modules()]
    assert kinds.count(layer) == kinds.count(nn.Conv2d) == 8
    neck(maps(64, 64))["0"].sum().backward()


def test_no_norm_unless_asked() -> None:
    assert not any(isinstance(module, nn.BatchNorm2d | nn.GroupNorm) for module in build((4, 8, 12, 16)).modules())


@pytest.mark.parametrize("norm", [None, "batch", "group"])
def test_deformable_output_convolutions_compute_at_first_what_plain_ones_do(norm: str | None) -> None:
    torch.manual_seed(0)
    plain = build((4, 8, 12, 16), channels=6, norm=norm)
    torch.manual_seed(0)
    deformable = build((4, 8, 12, 16), channels=6, norm=norm, deformable=True)
    kinds = [[type(module) for module in blocks.modules()] for blocks in deformable.pyramid.children()]
    assert [kind.count(DeformableConv2d) for kind in kinds[:2]] == [0, 4]
    for one, other in zip(plain(maps(64, 96)).values(), deformable(maps(64, 96)).values(), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)
    assert set(plain.state_dict()) < set(deformable.state_dict())


def test_deformable_output_convolutions_learn_where_to_look() -> None:
    neck = build((4, 8, 12, 16), channels=6, deformable=True)
    torch.stack([level.square().sum() for level in neck(maps(64, 96)).values()]).sum().backward()
    for block in neck.pyramid.layer_blocks:
        gradient = block[0].offsets.weight.grad
        assert torch.isfinite(gradient).all()
        assert gradient.any()
