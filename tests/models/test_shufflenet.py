"""ShuffleNet V2 of any size: torchvision's own without its additions, squeeze-excitation, identities, FLOPs."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import shufflenet_v2_x1_0, shufflenet_v2_x2_0
from torchvision.models.shufflenetv2 import InvertedResidual, channel_shuffle

from tis_ray.errors import ConfigError
from tis_ray.menu import check_options
from tis_ray.models.backbones import senet154, shufflenet_v2
from tis_ray.models.backbones._shufflenet import Unit

X2_0 = (24, 244, 488, 976, 2048)


@pytest.mark.parametrize(
    ("build", "options"),
    [(shufflenet_v2_x1_0, {}), (shufflenet_v2_x2_0, {"stages_out_channels": X2_0})],
    ids=["x1.0 by default", "x2.0"],
)
def test_without_additions_it_is_torchvisions_network(tmp_path: Path, build, options: dict) -> None:
    torch.manual_seed(0)
    oracle, image = build().eval(), torch.rand(1, 3, 64, 96)
    torch.save(oracle.state_dict(), tmp_path / "w.pth")
    backbone = shufflenet_v2.build(weights=tmp_path / "w.pth", **options).eval()
    names = [name for name in oracle.state_dict() if not name.startswith(("conv5.", "fc."))]
    assert list(backbone.body.state_dict()) == names
    with torch.inference_mode():
        values = oracle.maxpool(oracle.conv1(image))
        maps = backbone(image)
        assert torch.equal(maps[0], values)
        for stage, one in zip((oracle.stage2, oracle.stage3, oracle.stage4), maps[1:], strict=True):
            values = stage(values)
            assert torch.equal(one, values)


def unit(stride: int = 1, *, channels: int = 32, **options: bool) -> Unit:
    torch.manual_seed(0)
    return Unit(channels, 32, stride, **{"se": False, "residual": False, **options}).eval()


@pytest.mark.parametrize(("stride", "channels"), [(1, 32), (2, 24)])
def test_a_unit_without_additions_computes_what_torchvisions_does(stride: int, channels: int) -> None:
    own, theirs, values = (
        unit(stride, channels=channels),
        InvertedResidual(channels, 32, stride).eval(),
        pixels(channels),
    )
    theirs.load_state_dict(own.state_dict())
    assert torch.equal(own(values), theirs(values))


def pixels(channels: int = 32) -> Tensor:
    return torch.randn(2, channels, 6, 6, generator=torch.Generator().manual_seed(1))


def test_an_identity_passes_through_a_unit_that_computes_nothing() -> None:
    values, own = pixels(), unit(residual=True)
    nn.init.zeros_(own.branch2[6].weight)  # of the last normalisation, whose shift is zero
    kept, changed = values.chunk(2, dim=1)
    assert torch.equal(own(values), channel_shuffle(torch.cat((kept, changed.relu()), dim=1), 2))


def test_with_an_identity_the_branch_adds_before_its_last_relu() -> None:
    values, own = pixels(), unit(residual=True)
    kept, changed = values.chunk(2, dim=1)
    added = changed + nn.Sequential(*list(unit().branch2)[:-1])(changed)
    torch.testing.assert_close(own(values), channel_shuffle(torch.cat((kept, added.relu()), dim=1), 2))


def test_a_unit_of_stride_2_has_no_identity() -> None:
    plain, own, values = unit(2, channels=32), unit(2, channels=32, residual=True), pixels()
    assert torch.equal(plain(values), own(values))


@pytest.mark.parametrize("stride", [1, 2])
def test_squeeze_excitation_scales_the_branch(stride: int) -> None:
    """With a last layer of zeros its sigmoid is 0.5."""
    own, plain, values = unit(stride, se=True), unit(stride), pixels()
    plain.load_state_dict({key: value for key, value in own.state_dict().items() if ".fc" not in key})
    for value in own.branch2[7].fc2.parameters():
        nn.init.zeros_(value)
    half = plain(values).view(2, 16, 2, *values.shape[2:] if stride == 1 else (3, 3))
    half[:, :, 1] *= 0.5  # channels of the branch stand between those of the other half
    torch.testing.assert_close(own(values), half.flatten(1, 2))


@pytest.mark.parametrize("options", [{"se": True}, {"residual": True}, {"se": True, "residual": True}])
def test_gradients_reach_every_parameter(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    backbone = shufflenet_v2.build(stages_repeats=(2, 2, 2), stages_out_channels=(8, 32, 64, 128, 8), **options)
    sum(level.square().mean() for level in backbone(torch.rand(2, 3, 64, 64))).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_weights_without_squeeze_excitation_are_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    torch.save(shufflenet_v2_x1_0().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"64 weights do not fit ShuffleNetV2; first stage2\.0\.branch2\.7\.fc1\.bias"):
        shufflenet_v2.build(weights=tmp_path / "w.pth", se=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages_out_channels": [24, 115, 232, 464, 1024]}, r"stages_out_channels\.1: .*multiple of 2; got 115"),
        ({"stages_repeats": [4, 8]}, r"stages_repeats\.2: this key is required"),
        ({"stages_repeats": [4, 0, 4]}, r"stages_repeats\.1: .*greater than 0; got 0"),
    ],
    ids=["odd channels", "two stages", "no units"],
)
def test_sizes_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_options(shufflenet_v2.build, options, key="x")


@pytest.mark.slow
def test_the_large_setting_in_the_docs_has_the_flops_of_senet_154() -> None:
    settings = next(part for part in shufflenet_v2.__doc__.split("\n\n") if "shufflenet_v2:" in part)
    (options,) = yaml.safe_load(settings).values()
    with torch.device("meta"):
        large = shufflenet_v2.build(**check_options(shufflenet_v2.build, options, key="x"))
        ratio = flops(large) / flops(senet154.build())
    assert ratio == pytest.approx(1, abs=0.01)


def flops(network: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 800, 1333, device="meta"))
    return counter.get_total_flops()
