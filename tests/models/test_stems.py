"""Stems of 3x3 convolutions: their shapes, and what weights of a network with the 7x7 stem still give."""

from pathlib import Path

import pytest
import torch
from timm import create_model
from torch import nn
from torchvision.models import resnet18, resnet34, resnet50, shufflenet_v2_x0_5

from tis_ray.errors import CheckpointError
from tis_ray.menu import pick


def build(name: str, **options: object) -> nn.Module:
    return pick("tis_ray.models.backbones", "build", name, key="backbone")(**options)


def saved(tmp_path: Path, network: nn.Module) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def timms_deep(**options: object) -> nn.Module:
    """timm's ResNet-18 with the stem that its `resnet50s` to `resnet152s` have."""
    return create_model("resnet18", stem_type="deep", stem_width=64, **options)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("stem", "widths"), [("deep3", [64, 64, 128]), ("deep2", [64, 64])])
def test_deep_stems_are_3x3_convolutions_of_stride_2_in_all(name: str, stem: str, widths: list[int]) -> None:
    backbone = build(name, stem=stem).eval()
    convs = [layer for layer in backbone.body.conv1 if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == widths
    assert {conv.kernel_size for conv in convs} == {(3, 3)}
    assert [conv.stride[0] for conv in convs] == [2] + [1] * (len(widths) - 1)
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


def test_the_deep_stem_goes_before_timms_networks_too() -> None:
    backbone = build("seresnet152", stem="deep3").eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 32, 32))
    assert backbone.body.layer1[0].conv1.in_channels == 128
    assert [level.shape[1] for level in maps] == [256, 512, 1024, 2048]


# What stays as it was initialised, beside the stem and the normalisation behind it.
FRESH = {
    ("resnet18", "deep3"): {"layer1.0.conv1.weight", "layer1.0.downsample"},
    ("resnet18", "deep2"): set(),
    ("resnet50", "deep3"): {"layer1.0.conv1.weight", "layer1.0.downsample"},
}


@pytest.mark.parametrize(("name", "stem"), FRESH, ids=[" ".join(key) for key in FRESH])
def test_weights_of_the_7x7_network_load_but_for_what_the_stem_changes(tmp_path: Path, name: str, stem: str) -> None:
    source = {"resnet18": resnet18, "resnet50": resnet50}[name]()
    with torch.no_grad():
        for value in source.state_dict().values():
            value.fill_(7)
    state = build(name, stem=stem, weights=saved(tmp_path, source)).body.state_dict()
    fresh = {key for key, value in state.items() if "num_batches" not in key and not (value == 7).all()}
    allowed = ("conv1.", "bn1.", *FRESH[name, stem])
    assert fresh == {key for key in state if key.startswith(allowed) and "num_batches" not in key}


def test_weights_of_timms_network_with_the_deep_stem_load_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timms_deep().eval()
    backbone = build("resnet18", stem="deep3", weights=saved(tmp_path, source)).eval()
    oracle = timms_deep(features_only=True, out_indices=(1, 2, 3, 4)).eval()
    oracle.load_state_dict(source.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(backbone(image), oracle(image), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("source", "stem", "message"),
    [
        (shufflenet_v2_x0_5, "deep3", "weights do not fit ResNet; first "),
        (resnet34, "deep3", r"first layer1\.2\.bn1\.bias: expected nothing, got \(64,\)"),
        (timms_deep, "7x7", r"first bn1\.bias: expected \(64,\), got \(128,\)"),
        (timms_deep, "deep2", "weights do not fit"),
    ],
    ids=["another network", "a longer network", "deep stem into 7x7", "another deep stem"],
)
def test_whatever_else_does_not_fit_is_refused(tmp_path: Path, source: object, stem: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build("resnet18", stem=stem, weights=saved(tmp_path, source()))


def test_a_single_weight_that_is_missing_is_named(tmp_path: Path) -> None:
    source = resnet18()
    del source.layer1[0].conv1
    with pytest.raises(CheckpointError, match=r"1 weights .* first layer1\.0\.conv1\.weight: expected .*, got nothing"):
        build("resnet18", weights=saved(tmp_path, source))
