"""ImageNet weights by name: what torchvision and timm know, keep and fetch; a file is a file."""

import hashlib
import io
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from timm import create_model
from torch import nn
from torchvision.models import ShuffleNet_V2_X0_5_Weights, resnet18, shufflenet_v2_x0_5

from tests.http_server import served
from tests.tiny import TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.config.weights import is_weight_file
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.menu import check_options, choices, pick
from tis_ray.models.assembly import check_parts
from tis_ray.models.backbones._weight_names import weight_names

SHUFFLENET = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1


def builder(name: str) -> Callable[..., nn.Module]:
    return pick("tis_ray.models.backbones", "build", name, key="backbone")


def build(name: str, **options: object) -> nn.Module:
    return builder(name)(**options)


def assert_has_weights_of(backbone: nn.Module, source: nn.Module) -> None:
    """All of the backbone's tensors are those of the classification network's."""
    theirs = source.state_dict()
    for name, value in backbone.body.state_dict().items():
        assert torch.equal(value, theirs[name]), name


# ------------------------------------------------------------------------------------- Files and names


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        pytest.param("w.pth", True, id="pth"),
        pytest.param("w.PT", True, id="capitals"),
        pytest.param("pytorch_model.bin", True, id="bin"),
        pytest.param("model.safetensors", True, id="safetensors"),
        pytest.param("./IMAGENET1K_V1", True, id="with a slash"),
        pytest.param(Path("w"), True, id="a path"),
        pytest.param("IMAGENET1K_V1", False, id="torchvision's name"),
        pytest.param("resnet152s.gluon_in1k", False, id="timm's full name"),
        pytest.param("package", False, id="package"),
    ],
)
def test_files_are_told_from_names(weights: str | Path, expected: bool) -> None:
    assert is_weight_file(weights) is expected


def test_what_is_there_is_a_file_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_weight_file("mine")
    torch.save(shufflenet_v2_x0_5().state_dict(), "mine")
    assert is_weight_file("mine")
    assert_has_weights_of(build("shufflenet_v2_x0_5", weights="mine"), _loaded(shufflenet_v2_x0_5(), Path("mine")))


def _loaded(network: nn.Module, path: Path) -> nn.Module:
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


@pytest.mark.parametrize("name", choices("tis_ray.models.backbones"))
def test_every_backbone_takes_a_file_a_name_or_nothing(name: str) -> None:
    for weights in ("a/w.pth", Path("a/w.pth"), "IMAGENET1K_V1", None):
        assert check_options(builder(name), {"weights": weights}, key="x") == {"weights": weights}
    for wrong in (3, "", True):
        with pytest.raises(ConfigError, match=r"^x\.weights: expected a file, a name or null; got "):
            check_options(builder(name), {"weights": wrong}, key="x")


# --------------------------------------------------------------------------------------------- Names


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("resnet50", ["IMAGENET1K_V1", "IMAGENET1K_V2"]),
        ("shufflenet_v2_x2_0", ["IMAGENET1K_V1"]),
        ("senet154", ["gluon_in1k"]),
        ("seresnet152", []),
        ("tf_efficientnet_lite2", ["in1k", "package"]),
        ("tf_efficientnet_lite4", ["in1k"]),
        ("shufflenet_v2", []),
    ],
)
def test_names_are_those_that_the_networks_own_library_has(network: str, names: list[str]) -> None:
    assert weight_names(network) == names


def section(backbone: str, weights: object) -> DetectorSection:
    return parse(DetectorSection, {**TINY_DETECTOR, "backbone": {backbone: {"weights": weights}}}, source="test")


UNKNOWN = [
    pytest.param(
        "resnet18",
        "IMAGENET1K_V2",
        "expected weights as IMAGENET1K_V1, NETWORK.NAME of another network, or a file; got 'IMAGENET1K_V2'; "
        "did you mean 'IMAGENET1K_V1'?",
        id="another version",
    ),
    pytest.param(
        "resnet18",
        "a1_in1k",
        "expected weights as IMAGENET1K_V1, NETWORK.NAME of another network, or a file; got 'a1_in1k'; "
        "did you mean 'resnet18.a1_in1k'?",
        id="the other library's",
    ),
    pytest.param(
        "tf_efficientnet_lite0",
        "zz",
        "expected weights as in1k, package, NETWORK.NAME of another network, or a file; got 'zz'",
        id="timm",
    ),
    pytest.param(
        "tf_efficientnet_lite3",
        "package",
        "expected weights as in1k, NETWORK.NAME of another network, or a file; got 'package'",
        id="no such package",
    ),
    pytest.param(
        "seresnet18",
        "in1k",
        "expected weights as NETWORK.NAME of another network, or a file (seresnet18 has none with a name); got 'in1k'",
        id="none",
    ),
    pytest.param(
        "resnet18",
        "resnet152s.in1k",
        "expected weights as resnet152s.gluon_in1k, or a file; got 'resnet152s.in1k'; "
        "did you mean 'resnet152s.gluon_in1k'?",
        id="full name",
    ),
    pytest.param(
        "resnet18",
        "resnext.in1k",
        "expected weights as a file (resnext has none with a name); got 'resnext.in1k'",
        id="unknown network",
    ),
    pytest.param(
        "resnet18", "*.in1k", "expected weights as a file (* has none with a name); got '*.in1k'", id="a pattern"
    ),
]


@pytest.mark.parametrize(("backbone", "weights", "message"), UNKNOWN)
def test_an_unknown_name_is_refused_with_the_choices_before_anything_is_fetched(
    backbone: str, weights: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check_parts(section(backbone, weights))
    assert str(error.value) == f"detector.backbone.{backbone}.weights: {message}"
    with pytest.raises(ConfigError) as error:
        build(backbone, weights=weights)
    assert str(error.value) == f"weights: {message}"


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "resnet18.a1_in1k", "not/there.pth", None])
def test_a_recipe_is_checked_without_its_weights(weights: str | None) -> None:
    check_parts(section("resnet18", weights))


def test_of_a_backbone_that_there_is_not_the_weights_are_no_matter() -> None:
    with pytest.raises(ConfigError, match=r"^detector\.backbone: expected one of .*resnet101, .*; got 'resnet5'"):
        check_parts(section("resnet5", "IMAGENET1K_V1"))


def test_a_recipe_whose_weights_are_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^detector\.backbone\.resnet18\.weights: expected a file, a name or null"):
        check_parts(section("resnet18", 3))


# --------------------------------------------------------------------------------------------- torchvision


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torchvision keeps what it has fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("shufflenet_v2_x0_5", {"weights": "IMAGENET1K_V1"}),
        ("shufflenet_v2_x0_5", {"weights": "shufflenet_v2_x0_5.IMAGENET1K_V1"}),
        (
            "shufflenet_v2",
            {"weights": "shufflenet_v2_x0_5.IMAGENET1K_V1", "stages_out_channels": (24, 48, 96, 192, 1024)},
        ),
    ],
    ids=["name", "full name", "another backbone of the same tensors"],
)
def test_torchvisions_weights_come_from_its_cache(torch_home: Path, backbone: str, options: dict[str, object]) -> None:
    source = shufflenet_v2_x0_5()
    torch.save(source.state_dict(), torch_home / "shufflenetv2_x0.5-f707e7126e.pth")
    assert_has_weights_of(build(backbone, **options), source)


def answers(content: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    return Handler


def test_torchvisions_weights_are_fetched_once_and_kept(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, file = shufflenet_v2_x0_5(), io.BytesIO()
    torch.save(source.state_dict(), file)
    name = f"w-{hashlib.sha256(file.getvalue()).hexdigest()[:8]}.pth"
    with served(answers(file.getvalue())) as address:
        monkeypatch.setattr(SHUFFLENET.value, "url", f"{address}/{name}")
        assert_has_weights_of(build("shufflenet_v2_x0_5", weights="IMAGENET1K_V1"), source)
    assert [path.name for path in torch_home.iterdir()] == [name]
    assert_has_weights_of(build("shufflenet_v2_x0_5", weights="IMAGENET1K_V1"), source)  # from a server that has gone


def test_what_was_fetched_and_is_something_else_is_refused(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(answers(b"a proxy's page")) as address:
        monkeypatch.setattr(SHUFFLENET.value, "url", f"{address}/w-01234567.pth")
        with pytest.raises(CheckpointError, match=r"shufflenet_v2_x0_5\.IMAGENET1K_V1 .*invalid hash value"):
            build("shufflenet_v2_x0_5", weights="IMAGENET1K_V1")
    assert not list(torch_home.iterdir())


def test_where_there_is_no_net_the_way_out_is_told(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(BaseHTTPRequestHandler) as address:
        pass  # nobody answers there any more
    url = f"{address}/w-01234567.pth"
    monkeypatch.setattr(SHUFFLENET.value, "url", url)
    with pytest.raises(CheckpointError) as error:
        build("shufflenet_v2_x0_5", weights="IMAGENET1K_V1")
    assert str(error.value) == (
        "weights: expected shufflenet_v2_x0_5.IMAGENET1K_V1 in the cache or from the net; "
        f"got <urlopen error [Errno 111] Connection refused> (fetch {url} by hand and give the file's path)"
    )


# --------------------------------------------------------------------------------------------------- timm


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, nn.Module], None]:
    """Puts a network's tensors where timm keeps what it has fetched; there is no net."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(name: str, network: nn.Module) -> None:
        folder = tmp_path / f"models--timm--{name}"
        snapshot = folder / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        save_file(network.state_dict(), snapshot / "model.safetensors")

    return put


@pytest.mark.parametrize("weights", ["in1k", "tf_efficientnet_lite0.in1k"])
def test_timms_weights_come_from_its_cache(hugging_face: Callable[[str, nn.Module], None], weights: str) -> None:
    source = create_model("tf_efficientnet_lite0")
    hugging_face("tf_efficientnet_lite0.in1k", source)
    backbone = build("tf_efficientnet_lite0", weights=weights)
    assert torch.equal(backbone.body.conv_stem.weight, source.conv_stem.weight)
    assert torch.equal(backbone.body.blocks_6[0].bn3.running_var, source.blocks[6][0].bn3.running_var)


def test_timms_weights_of_the_same_tensors_go_into_torchvisions_network(
    hugging_face: Callable[[str, nn.Module], None],
) -> None:
    source = resnet18()
    hugging_face("resnet18.a1_in1k", source)
    assert_has_weights_of(build("resnet18", weights="resnet18.a1_in1k"), source)
    with pytest.raises(CheckpointError, match=r"^resnet18\.a1_in1k: 32 weights do not fit ResNet; first layer1\.0\.se"):
        build("seresnet18", weights="resnet18.a1_in1k")


def test_what_timm_cannot_fetch_is_named_with_the_way_out(hugging_face: Callable[[str, nn.Module], None]) -> None:
    with pytest.raises(CheckpointError) as error:
        build("tf_efficientnet_lite1", weights="in1k")
    message = str(error.value)
    assert message.startswith("weights: expected tf_efficientnet_lite1.in1k in the cache or from the net; got ")
    assert message.endswith("/tf_efficientnet_lite1-bde8b488.pth by hand and give the file's path)")
    assert "\n" not in message
