"""The multi-scale subnetwork against its plain form, chunk by chunk and on levels; both samplings by known answers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from tis_ray.models.pyramid_align import Pyramid
from tis_ray.models.roi_levels import fpn_levels
from tis_ray.models.roi_pooling import subnet
from tis_ray.models.roi_pooling._reading import places, read
from tis_ray.models.roi_pooling.subnet import Subnet, build, samples

STRIDES = (4, 8)
PYRAMID = Pyramid(5, STRIDES, fpn_levels(STRIDES))
SIZES = [(64, 96), (64, 96)]
BOXES = [
    torch.tensor([[3.0, 5.0, 40.0, 33.0], [0.0, 0.0, 96.0, 64.0], [50.3, 20.1, 57.9, 61.7], [90.0, 60.0, 96.0, 64.0]]),
    torch.tensor([[10.0, 10.0, 90.0, 60.0]]),
]
LEVELS = torch.tensor([0, 1, 0, 1, 1])


def pyramid(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 64 // stride, 96 // stride) for stride in STRIDES]
    return {str(i): torch.randn(shape, generator=generator, dtype=dtype) + 3 for i, shape in enumerate(shapes)}


def made(**options: object) -> Subnet:
    torch.manual_seed(1)
    pool = build(PYRAMID, 3, channels=8, **options).double()
    for branch in pool.branches:
        nn.init.uniform_(branch.norm.weight, 0.5, 2)
        nn.init.uniform_(branch.norm.bias, -1, 1)
    return pool


def plain(pool: Subnet, features: dict[str, Tensor], norms: list[nn.Module]) -> Tensor:
    """Crop, convolve, normalise, ReLU, mean; then the last convolution."""
    rois = torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], 1) for i, b in enumerate(BOXES)]).double()
    parts = []
    for branch, norm in zip(pool.branches, norms, strict=True):
        side = 3 * branch.fineness
        crops = [roi_align(features[str(i)], rois, side, 1 / stride, 1, True) for i, stride in enumerate(STRIDES)]
        crops = torch.where((LEVELS == 0)[:, None, None, None], *crops)
        seen = norm(F.conv2d(crops, branch.project.weight[:, :, None, None]))
        parts.append(F.avg_pool2d(F.relu(seen), branch.fineness))
    return F.relu(pool.merge(torch.cat(parts, dim=1)))


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("most", [1, 2 * 8 * 12**2, 2**24], ids=["one by one", "in twos", "at once"])
def test_results_gradients_and_statistics_are_those_of_the_plain_form(
    norm: str, kernel: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subnet, "MOST_VALUES", most)
    pool = made(norm=norm, kernel=kernel)
    norms = nn.ModuleList(copy.deepcopy(branch.norm) for branch in pool.branches)
    features = pyramid()
    weight = torch.randn(5, 8, 3, 3, dtype=torch.float64)
    shared = [value.requires_grad_() for value in features.values()]
    shared += [branch.project.weight for branch in pool.branches] + list(pool.merge.parameters())
    own = [parameter for branch in pool.branches for parameter in branch.norm.parameters()]

    found = pool(features, BOXES, SIZES, levels=LEVELS)
    expected = plain(pool, features, norms)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # places are float32
    ours = torch.autograd.grad((found * weight).sum(), shared + own)
    theirs = torch.autograd.grad((expected * weight).sum(), [*shared, *norms.parameters()])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for branch, one in zip(pool.branches, norms, strict=True):
        torch.testing.assert_close(dict(branch.norm.named_buffers()), dict(one.named_buffers()), rtol=1e-5, atol=1e-5)


def test_a_tested_network_normalises_by_what_it_has_seen() -> None:
    pool = made()
    for _ in range(3):
        pool(pyramid(), BOXES, SIZES, levels=LEVELS)
    pool.eval()
    expected = plain(pool, pyramid(), [branch.norm for branch in pool.branches])
    with torch.no_grad():
        torch.testing.assert_close(pool(pyramid(), BOXES, SIZES, levels=LEVELS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_no_regions_leave_the_statistics_alone_and_reach_every_weight(norm: str) -> None:
    pool = made(norm=norm)
    before = {name: value.clone() for name, value in pool.named_buffers()}
    none = pool(pyramid(), [boxes[:0] for boxes in BOXES], SIZES)
    assert none.shape == (0, 8, 3, 3)
    none.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in pool.parameters())
    assert all(torch.equal(before[name], value) for name, value in pool.named_buffers())


def test_one_region_of_one_sample_is_pooled() -> None:
    pool = build(PYRAMID, 1, channels=8, sizes=(1,))
    found = pool(pyramid(torch.float32), [BOXES[0][:1], BOXES[1][:0]], SIZES)
    assert found.shape == (1, 8, 1, 1)
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(value).all() for value in pool.buffers())


def test_statistics_are_exact_where_values_are_far_from_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of squares less the square of the sum would be wrong by half here."""
    monkeypatch.setattr(subnet, "MOST_VALUES", 1)
    pool = made(sizes=(1,)).float()
    features = {name: value + 3000 for name, value in pyramid().items()}
    pool({name: value.float() for name, value in features.items()}, BOXES, SIZES, levels=LEVELS)
    exact = made(sizes=(1,))
    exact(features, BOXES, SIZES, levels=LEVELS)
    torch.testing.assert_close(
        pool.branches[0].norm.running_var, exact.branches[0].norm.running_var.float(), rtol=1e-2, atol=0
    )


def test_mixed_precision_crops_and_normalises_in_float32() -> None:
    pool, features = made().float(), pyramid(torch.float32)
    exact = pool(features, BOXES, SIZES)
    with torch.autocast("cpu", torch.bfloat16):
        found = pool({name: value.bfloat16() for name, value in features.items()}, BOXES, SIZES)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.05)


# ----------------------------------------------------------------------------------------- Where regions are read

RAMP = torch.arange(16.0).reshape(1, 1, 4, 4)


def cropped(box: list[float], count: int, align: str) -> list[list[float]]:
    found = places({"0": RAMP}, (1,), [torch.tensor([box])], torch.zeros(1, dtype=torch.int64))
    x, y = (samples(found.boxes[:, i], found.boxes[:, i + 2], found.width, count, align) for i in (0, 1))
    rows = RAMP.flatten()[:, None]
    values = read(rows, found, x[:, None, :, None], y[:, :, None, None], beyond=0.0 if align == "tf" else 1.0)
    return values[0, :, :, 0].tolist()


@pytest.mark.parametrize(
    ("box", "count", "align", "expected"),
    [
        pytest.param([0, 0, 4, 4], 2, "tf", [[0, 3], [12, 15]], id="tf, two samples"),
        pytest.param([0, 0, 4, 4], 3, "tf", [[0, 1.5, 3], [6, 7.5, 9], [12, 13.5, 15]], id="tf, three samples"),
        pytest.param([0, 0, 2, 2], 2, "tf", [[0, 1.5], [6, 7.5]], id="tf, a quarter of the map"),
        pytest.param([0, 0, 4, 4], 1, "tf", [[7.5]], id="tf, one sample in the middle"),
        pytest.param([-4, 0, 4, 4], 3, "tf", [[0, 0, 3], [0, 6, 9], [0, 12, 15]], id="tf, 0 outside of the map"),
        pytest.param([0, 0, 4, 4], 2, "cell", [[2.5, 4.5], [10.5, 12.5]], id="cell"),
        pytest.param([3, 3, 5, 5], 2, "cell", [[15, 15], [15, 15]], id="cell, a pixel around the map holds its border"),
        pytest.param([3, 3, 9, 9], 2, "cell", [[15, 0], [0, 0]], id="cell, 0 farther out"),
    ],
)
def test_a_ramp_is_cropped(box: list[float], count: int, align: str, expected: list[list[float]]) -> None:
    assert cropped(box, count, align) == expected


@pytest.mark.parametrize("count", [14, 28, 56])
def test_the_last_sample_of_the_whole_map_is_its_last_pixel(count: int) -> None:
    """However the division rounds, it does not fall outside, where there is nothing."""
    for size in (7, 13, 50, 167):
        low, high, sizes = torch.zeros(1), torch.tensor([float(size)]), torch.tensor([size])
        assert samples(low, high, sizes, count, "tf")[0, -1] == size - 1


@pytest.mark.parametrize("fineness", [2, 4])
def test_cells_of_all_branches_lie_on_each_other(fineness: int) -> None:
    """Means of a finer crop are RoIAlign of as many samples a cell."""
    features, rois = torch.randn(1, 3, 20, 20), torch.tensor([[0, 2.3, 1.7, 15.1, 17.9]])
    fine = roi_align(features, rois, 7 * fineness, 1.0, 1, True)
    torch.testing.assert_close(F.avg_pool2d(fine, fineness), roi_align(features, rois, 7, 1.0, fineness, True))
    found = places({"0": features}, (1,), [rois[:, 1:]], torch.zeros(1, dtype=torch.int64))
    x, y = (samples(found.boxes[:, i], found.boxes[:, i + 2], found.width, 7 * fineness, "cell") for i in (0, 1))
    ours = read(features[0].flatten(1).T, found, x[:, None, :, None], y[:, :, None, None])
    torch.testing.assert_close(ours.permute(0, 3, 1, 2), fine)
