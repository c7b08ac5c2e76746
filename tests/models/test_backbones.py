"""Every backbone: strides, channels, its last stage, normalisation, and weights from a file."""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from torch import nn
from torchvision.models import resnet18, resnet50, shufflenet_v2_x0_5

from tis_ray.config import Norm
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.menu import check_options, choices, pick
from tis_ray.models.backbones._features import finished
from tis_ray.models.backbones._norm import Norm as BackboneNorm
from tis_ray.models.deformable import DeformableConv2d
from tis_ray.models.norm import SyncBatchNorm2d

BACKBONES = choices("tis_ray.models.backbones")


def build(name: str, **options: object) -> nn.Module:
    return builder(name)(**options)


def builder(name: str) -> Callable[..., nn.Module]:
    return pick("tis_ray.models.backbones", "build", name, key="backbone")


def on_no_device(name: str, **options: object) -> nn.Module:
    """The backbone's shapes alone, in no time."""
    with torch.device("meta"):
        return build(name, **options)


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_strides_4_to_32_and_the_stated_channels(name: str) -> None:
    backbone = on_no_device(name)
    maps = backbone(torch.zeros(1, 3, 64, 96, device="meta"))
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
        "senet154",
        "seresnet18",
        "seresnet152",
        "shufflenet_v2",
        "shufflenet_v2_x0_5",
        "shufflenet_v2_x1_0",
        "shufflenet_v2_x1_5",
        "shufflenet_v2_x2_0",
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite1",
        "tf_efficientnet_lite2",
        "tf_efficientnet_lite3",
        "tf_efficientnet_lite4",
    } <= set(BACKBONES)


@pytest.mark.parametrize("name", ["seresnet18", "shufflenet_v2_x1_5", pytest.param("senet154", marks=pytest.mark.slow)])
def test_maps_of_a_picture_are_finite_and_not_all_alike(name: str) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        maps = build(name).eval()(torch.rand(1, 3, 64, 64))
    assert all(level.isfinite().all() and level.std() > 0 for level in maps)


def test_maps_of_se_resnet_equal_those_of_timms_own_features(tmp_path: Path) -> None:
    oracle = create_model("seresnet18", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    torch.save(dict(oracle.state_dict()), tmp_path / "w.pth")
    backbone, image = build("seresnet18", weights=tmp_path / "w.pth").eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(backbone(image), oracle(image), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["resnet18", "seresnet18", "shufflenet_v2_x0_5", "tf_efficientnet_lite0"])
def test_the_last_stage_continues_where_the_maps_now_end(name: str) -> None:
    backbone, image = build(name).eval(), torch.rand(1, 3, 64, 96)
    channels, weights = backbone.channels, backbone.state_dict()
    with torch.inference_mode():
        before = backbone(image)
        stage = backbone.take_last_stage()
        after = backbone(image)
        assert len(after) == 3
        for one, other in zip(before, [*after, stage(after[-1])], strict=True):
            assert torch.equal(one, other)
    assert (*backbone.channels, stage.out_channels) == channels
    parts = [f"body.{key}" for key in [*backbone.body.state_dict(), *stage.state_dict()]]
    assert parts == list(weights)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_stage_makes_the_last_map_of_the_one_before(name: str) -> None:
    backbone = on_no_device(name)
    if not hasattr(backbone, "take_last_stage"):
        pytest.skip("its stages do not follow one another")
    channels = backbone.channels
    stage = backbone.take_last_stage()
    assert (*backbone.channels, stage.out_channels) == channels
    assert stage(torch.zeros(1, channels[2], 4, 6, device="meta")).shape == (1, channels[3], 2, 3)


@pytest.mark.parametrize("name", [name for name in BACKBONES if "norm" in signature(builder(name)).parameters])
def test_group_normalisation_leaves_none_over_batches(name: str) -> None:
    assert not any(isinstance(module, nn.BatchNorm2d) for module in on_no_device(name, norm="group").modules())


def test_another_norm_of_a_network_without_batch_normalisation_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    assert finished(network, "vgg", weights=None) is network
    with pytest.raises(ConfigError, match=r"^detector\.backbone\.vgg\.norm: expected .* batch .*; got frozen$"):
        finished(network, "vgg", norm="frozen", weights=None)


@pytest.mark.parametrize("norm", ["sync", "frozen", "group"])
@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "tf_efficientnet_lite0"])
def test_normalisation_is_replaced_everywhere(name: str, norm: str) -> None:
    backbone = build(name, norm=norm)
    batch = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(isinstance(module, SyncBatchNorm2d) for module in batch)
    assert bool(batch) == (norm == "sync")
    backbone(torch.rand(1, 3, 64, 64))


def test_norms_of_backbones_are_those_of_heads_and_frozen() -> None:
    assert set(get_args(BackboneNorm)) - set(get_args(Norm)) == {"frozen"}


@pytest.mark.parametrize("name", ["resnet18", "seresnet18", "tf_efficientnet_lite0"])
def test_norm_over_workers_is_batch_norm_in_one_process(name: str) -> None:
    torch.manual_seed(0)
    batch, images = build(name), torch.rand(2, 3, 64, 64)
    sync = build(name, norm="sync")
    sync.load_state_dict(batch.state_dict())
    for training in (True, False):
        for one, other in zip(batch.train(training)(images), sync.train(training)(images), strict=True):
            torch.testing.assert_close(other, one)
    torch.testing.assert_close(sync.state_dict(), batch.state_dict())


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


@pytest.mark.parametrize("norm", ["sync", "frozen", "group"])
def test_norm_keeps_the_activations_that_sit_inside_batch_norm(norm: str) -> None:
    backbone = build("tf_efficientnet_lite0", norm=norm)
    assert isinstance(backbone.body.bn1.act, nn.ReLU6)
    assert isinstance(backbone.body.blocks_0[0].bn2.act, nn.Identity)


def test_batch_norm_takes_an_eps() -> None:
    """torchvision's first COCO detectors have 0."""
    for norm in ("batch", "sync", "frozen"):
        backbone = build("resnet50", norm=norm, stem="deep3", eps=0.0)
        assert {module.eps for module in backbone.modules() if hasattr(module, "eps")} == {0.0}


DEFORMABLE = ["resnet18", "resnet50", "resnet101", "resnet152"]
DEFORMABLE += ["resnext101_32x8d", "senet154", "seresnet18", "seresnet152"]


def test_other_networks_than_resnets_refuse_deformable_convolutions() -> None:
    with pytest.raises(ConfigError, match=r"deformable: unknown key.*norm"):
        check_options(builder("shufflenet_v2_x0_5"), {"deformable": True}, key="detector.backbone.shufflenet_v2_x0_5")


@pytest.mark.parametrize("name", DEFORMABLE)
def test_one_convolution_of_each_block_in_stages_3_to_5_is_deformable(name: str) -> None:
    body = on_no_device(name, deformable=True).body
    for stage in ("layer2", "layer3", "layer4"):
        for block in body[stage]:
            (layer,) = [module for module in block.modules() if isinstance(module, DeformableConv2d)]
            assert layer is block.conv2
            assert layer.kernel_size == (3, 3)
    assert not any(isinstance(module, DeformableConv2d) for module in body["layer1"].modules())


@pytest.mark.parametrize(
    ("name", "norm", "source"),
    [
        pytest.param("resnet18", "group", resnet18, id="basic block"),
        pytest.param("resnet50", "frozen", resnet50, id="bottleneck"),
    ],
)
def test_plain_weights_give_deformable_backbones_the_plain_maps(
    tmp_path: Path, name: str, norm: str, source: Callable[[], nn.Module]
) -> None:
    torch.save(source().state_dict(), path := tmp_path / "weights.pth")
    plain, deformable = (build(name, norm=norm, weights=path, deformable=value).eval() for value in (False, True))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(plain(image), deformable(image), strict=True):
            torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


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
