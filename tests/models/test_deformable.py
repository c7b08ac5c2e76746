"""Deformable convolution beside its formula, at its beginning, in mixed precision, and where weights are lost."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, grid_sample

from tis_ray.models.deformable import DeformableConv2d, fitted

GEOMETRIES = [
    pytest.param({"padding": 1}, id="plain"),
    pytest.param({"stride": 2, "padding": 1, "bias": False}, id="stride"),
    pytest.param({"padding": 2, "dilation": 2}, id="dilation"),
    pytest.param({"padding": 1, "groups": 2, "bias": False}, id="groups"),
    pytest.param({"kernel_size": (1, 3), "padding": (0, 1)}, id="flat kernel"),
]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def unsettled(layer: DeformableConv2d) -> DeformableConv2d:
    """The layer with offsets of some pixels and modulations all over 0 to 1."""
    nn.init.normal_(layer.offsets.weight, std=0.5)
    nn.init.normal_(layer.offsets.bias)
    return layer


def by_taps(layer: DeformableConv2d, values: Tensor) -> Tensor:
    """The formula, a tap after the other, with PyTorch's sampling of pictures."""
    predicted = layer.offsets(values)
    (rows, columns), (height, width) = predicted.shape[2:], values.shape[2:]
    total = 0
    for tap in range(layer.taps):
        tap_y, tap_x = divmod(tap, layer.kernel_size[1])
        y = torch.arange(rows)[:, None] * layer.stride[0] - layer.padding[0] + tap_y * layer.dilation[0]
        x = torch.arange(columns)[None] * layer.stride[1] - layer.padding[1] + tap_x * layer.dilation[1]
        y, x = y + predicted[:, 2 * tap], x + predicted[:, 2 * tap + 1]  # (B, H', W')
        grid = torch.stack([x / (width - 1), y / (height - 1)], dim=-1) * 2 - 1
        sampled = grid_sample(values, grid, align_corners=True, padding_mode="zeros")
        sampled = sampled * predicted[:, 2 * layer.taps + tap, None].sigmoid()
        total = total + conv2d(sampled, layer.weight[:, :, tap_y, tap_x, None, None], groups=layer.groups)
    return total if layer.bias is None else total + layer.bias[:, None, None]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_computes_the_formula_and_its_gradients(geometry: dict) -> None:
    layer = unsettled(DeformableConv2d(4, 6, **geometry).double())
    values = torch.randn(2, 4, 9, 12, dtype=torch.float64, requires_grad=True)
    answers = [layer(values), by_taps(layer, values)]
    torch.testing.assert_close(*answers)
    inputs = [values, *layer.parameters()]
    gradients = [torch.autograd.grad(answer.square().sum(), inputs) for answer in answers]
    torch.testing.assert_close(*gradients)


def test_new_weights_give_half_of_a_plain_convolution() -> None:
    layer, values = DeformableConv2d(4, 6, padding=1, bias=False), torch.randn(2, 4, 9, 12)
    torch.testing.assert_close(layer(values), 0.5 * conv2d(values, layer.weight, padding=1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_made_of_a_convolution_it_computes_the_same_in_the_same_layout(
    geometry: dict, layout: torch.memory_format
) -> None:
    plain = nn.Conv2d(4, 6, **{"kernel_size": 3, **geometry})
    before = plain.weight.clone()
    deformable = DeformableConv2d.of(plain)
    assert torch.equal(plain.weight, before)
    values = torch.randn(2, 4, 9, 12).to(memory_format=layout)
    expected, answer = plain.to(memory_format=layout)(values), deformable.to(memory_format=layout)(values)
    torch.testing.assert_close(answer, expected)
    assert answer.is_contiguous(memory_format=layout)


def copying(*, channels: int = 1) -> DeformableConv2d:
    """A layer that answers with what it gets."""
    plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    nn.init.dirac_(plain.weight)
    return DeformableConv2d.of(plain)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        pytest.param(2 * 4 + 1, [[1, 2, 3, 4, 5, 0]] * 3, id="dx"),
        pytest.param(2 * 4, [[0, 1, 2, 3, 4, 5]] * 2 + [[0] * 6], id="dy"),
    ],
)
def test_offset_of_the_centre_tap_moves_a_ramp(channel: int, expected: list[list[int]]) -> None:
    layer, ramp = copying(), torch.arange(6.0).expand(1, 1, 3, 6)
    with torch.no_grad():
        layer.offsets.bias[channel] = 1
        assert layer(ramp)[0, 0].tolist() == expected


def test_no_images_are_fine() -> None:
    layer, values = DeformableConv2d(4, 6, padding=1), torch.zeros(0, 4, 9, 12, requires_grad=True)
    answer = layer(values)
    assert answer.shape == (0, 6, 9, 12)
    answer.sum().backward()
    assert values.grad.shape == values.shape


def test_offsets_and_modulation_learn_from_their_first_step_on() -> None:
    layer = DeformableConv2d.of(nn.Conv2d(4, 6, 3, padding=1))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    values, wanted, losses = torch.randn(2, 4, 9, 12), torch.randn(2, 6, 9, 12), []
    for _ in range(3):
        loss = (layer(values) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        for gradient in (layer.offsets.weight.grad, layer.offsets.bias.grad):
            assert torch.isfinite(gradient).all()
            assert gradient.reshape(27, -1).any(dim=1).all()
        optimizer.step()
    assert losses[2] < losses[1] < losses[0]


def test_places_far_from_the_origin_are_exact_under_autocast() -> None:
    layer = copying()
    with torch.no_grad():
        layer.offsets.bias[2 * 4 + 1] = 0.5
    values = torch.randint(0, 2, (1, 1, 1, 3500)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        answer = layer(values)
    assert answer.dtype == torch.bfloat16
    assert torch.equal(answer[..., :-1], (values[..., :-1] + values[..., 1:]) / 2)


def test_learns_under_autocast_as_in_float32() -> None:
    layer = unsettled(DeformableConv2d(4, 6, padding=1))
    values = torch.randn(2, 4, 9, 12).bfloat16().float()
    expected = torch.autograd.grad(layer(values).sum(), list(layer.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = layer(values.bfloat16())
    gradients = torch.autograd.grad(answer.sum(), list(layer.parameters()))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), -float("inf"), 1e30], ids=str)
def test_offsets_beyond_the_map_and_lost_ones_end_no_process_and_nan_shows(lost: float) -> None:
    layer = DeformableConv2d(4, 6, padding=1)
    nn.init.constant_(layer.offsets.bias, lost)
    answer = layer(torch.randn(2, 4, 9, 12))
    answer.sum().backward()
    assert answer.isnan().all() == (lost != lost)


def test_weights_have_a_plain_convolutions_names_beside_those_of_the_offsets() -> None:
    shapes = {name: tuple(value.shape) for name, value in DeformableConv2d(4, 6, groups=2).state_dict().items()}
    assert shapes == {
        "weight": (6, 2, 3, 3),
        "bias": (6,),
        "offsets.weight": (27, 4, 3, 3),
        "offsets.bias": (27,),
    }


def test_weights_of_the_other_kind_are_fitted() -> None:
    def network(*, deformable: bool) -> nn.Module:
        convs = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)]
        return nn.Sequential(convs[0], DeformableConv2d.of(convs[1]) if deformable else convs[1])

    values = torch.randn(2, 4, 9, 12)
    for deformable in (False, True):
        source, wanted = network(deformable=deformable), network(deformable=not deformable)
        state = source.state_dict()
        wanted.load_state_dict(fitted(state, wanted.state_dict()), strict=False)
        torch.testing.assert_close(wanted(values), source(values))
        same = fitted(state, state)
        assert all(same[name] is value for name, value in state.items())
