"""Every backbone: strides, channels, normalisation, and weights from a file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, shufflenet_v2_x0_5

from tis_ray.errors import CheckpointError
from tis_ray.menu import choices, pick

BACKBONES = choices("tis_ray.models.backbones")


def build(name: str, **options: object) -> nn.Module:
    return pick("tis_ray.models.backbones", "build", name, key="backbone")(**options)


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_strides_4_to_32_and_the_stated_channels(name: str) -> None:
    backbone = build(name).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


def test_promised_backbones_are_on_the_menu() -> None:
    assert {
        "resnet18",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext101_32x8d",
        "seresnet152",
        "shufflenet_v2_x0_5",
        "shufflenet_v2_x1_0",
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite2",
    } <= set(BACKBONES)


@pytest.mark.parametrize("norm", ["frozen", "group"])
@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "tf_efficientnet_lite0"])
def test_normalisation_is_replaced_everywhere(name: str, norm: str) -> None:
    backbone = build(name, norm=norm)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    backbone(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_frozen_norm_computes_what_batch_norm_in_evaluation_does(name: str) -> None:
    torch.manual_seed(0)
    batch = build(name)
    for _ in range(2):  # statistics other than those one starts with
        batch(torch.rand(2, 3, 64, 64))
    frozen = build(name, norm="frozen")
    frozen.load_state_dict({k: v for k, v in batch.eval().state_dict().items() if "num_batches" not in k})
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(batch(image), frozen(image), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_group_norm_keeps_the_activations_that_sit_inside_batch_norm() -> None:
    backbone = build("tf_efficientnet_lite0", norm="group")
    assert isinstance(backbone.body.bn1.act, nn.ReLU6)
    assert isinstance(backbone.body.blocks_0[0].bn2.act, nn.Identity)


def test_batch_norm_takes_an_eps() -> None:
    """torchvision's first COCO detectors have 0."""
    for norm in ("batch", "frozen"):
        backbone = build("resnet50", norm=norm, stem="deep3", eps=0.0)
        assert {module.eps for module in backbone.modules() if hasattr(module, "eps")} == {0.0}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_are_read_from_a_file_whatever_its_classifier(tmp_path: Path, suffix: str) -> None:
    source = shufflenet_v2_x0_5(num_classes=13)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    backbone = build("shufflenet_v2_x0_5", weights=path)
    assert torch.equal(backbone.body.stage4[0].branch2[0].weight, source.stage4[0].branch2[0].weight)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(resnet18().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"weights do not fit ShuffleNetV2; first .*expected .*got"):
        build("shufflenet_v2_x0_5", weights=path)


def test_missing_weight_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights: expected a readable state dict in .*none\.pth"):
        build("resnet18", weights=tmp_path / "none.pth")
